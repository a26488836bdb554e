//! The page: figures, the reliability curve, and a picture of everything that went wrong. One file, nothing from elsewhere.

use std::fmt::Write as _;

use base64::Engine as _;
use flow::Timestamp;

use super::figures::{Figures, Judged, Reliability};

/// Something that went wrong.
pub struct Sight {
    pub what: What,
    pub camera: String,
    pub situation: String,
    pub at: Timestamp,
    /// How sure the event was.
    pub confidence: Option<f32>,
    pub jpeg: Vec<u8>,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Missed,
    FalseAlarm,
    Duplicate,
}

impl What {
    fn title(self) -> &'static str {
        match self {
            Self::Missed => "Missed",
            Self::FalseAlarm => "False alarms",
            Self::Duplicate => "Told twice",
        }
    }
}

const STYLE: &str = "body{font:15px/1.5 system-ui,'Noto Sans CJK SC',sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1b1f24}\
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .8rem;text-align:right;border-bottom:1px solid #d8dee4}\
th:first-child,td:first-child{text-align:left}figure{display:inline-block;margin:.5rem;width:22rem;vertical-align:top}\
figure img{width:100%}figcaption{font-size:13px;color:#57606a}svg{margin:1rem 1rem 0 0}";

/// The page's text.
pub fn page(title: &str, said: &[String], judged: &Judged, sights: &[Sight]) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>",
        escape(title)
    );
    for line in said {
        let _ = write!(out, "<p>{}</p>", escape(line));
    }
    table(&mut out, "All", judged.figures(|_| true).iter());
    for (key, values) in judged.split() {
        for (value, figures) in &values {
            table(&mut out, &format!("{key}: {value}"), figures.iter());
        }
    }
    out.push_str(
        "<h2>Reliability of the confidence</h2><p>Of events that are said to be so sure, the share that is \
                  true; then the same of what the rules state by themselves.</p>",
    );
    for situation in &judged.situations {
        curve(&mut out, situation, &judged.reliability(Some(situation)));
        let name = format!("{situation}, uncalibrated");
        curve(&mut out, &name, &judged.reliability_uncalibrated(Some(situation)));
    }
    for what in [What::Missed, What::FalseAlarm, What::Duplicate] {
        let mine: Vec<_> = sights.iter().filter(|sight| sight.what == what).collect();
        let _ = write!(out, "<h2>{} ({})</h2>", what.title(), mine.len());
        if what == What::Missed {
            out.push_str("<p>Yellow: what is there. Green: what the model sees. Blue: the zone.</p>");
        }
        mine.into_iter().for_each(|sight| figure(&mut out, sight));
    }
    out.push_str("</html>\n");
    out
}

fn table<'f>(out: &mut String, title: &str, rows: impl Iterator<Item = (&'f String, &'f Figures)>) {
    let _ = write!(
        out,
        "<h3>{}</h3><table><tr><th>situation<th>precision<th>recall<th>F1<th>onset p50<th>onset p95<th>events per true one\
         <th>false alarms per camera-day<th>camera-days<th>there<th>found<th>false</tr>",
        escape(title)
    );
    for (situation, f) in rows {
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{:.2}<td>{}<td>{}<td>{}</tr>",
            escape(situation),
            share(f.precision),
            share(f.recall),
            share(f.f1),
            seconds(f.onset_p50_s),
            seconds(f.onset_p95_s),
            share(f.duplicates_per_event),
            share(f.false_alarms_per_camera_day),
            f.camera_days,
            f.situations,
            f.found,
            f.false_alarms,
        );
    }
    out.push_str("</table>");
}

/// Three decimals, or a dash.
pub fn share(value: Option<f64>) -> String {
    value.map_or("–".into(), |v| format!("{v:.3}"))
}

/// Whole seconds, or a dash.
pub fn seconds(value: Option<f64>) -> String {
    value.map_or("–".into(), |v| format!("{v:.0} s"))
}

/// Stated to the right, observed upwards; the size of a dot goes with the number of events.
fn curve(out: &mut String, situation: &str, curve: &Reliability) {
    let error = share(curve.expected_calibration_error);
    let _ = write!(
        out,
        "<svg width=\"280\" height=\"300\" viewBox=\"-30 -20 280 300\" font-size=\"11\"><text x=\"0\" y=\"-6\">{} · calibration error \
         {error}</text><rect width=\"220\" height=\"220\" fill=\"none\" stroke=\"#8c959f\"/><line x1=\"0\" y1=\"220\" x2=\"220\" y2=\"0\" \
         stroke=\"#d8dee4\"/><text x=\"90\" y=\"240\">stated</text><text x=\"-8\" y=\"110\" transform=\"rotate(-90 -8 110)\">observed</text>",
        escape(situation)
    );
    for bin in &curve.bins {
        let (x, y) = (220.0 * bin.stated, 220.0 - 220.0 * bin.observed);
        let r = 2.0 + 1.6 * (bin.events as f64).ln_1p();
        let _ = write!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r:.1}\" fill=\"#0969da\" fill-opacity=\".7\"><title>{} events: stated {:.2}, \
             observed {:.2}</title></circle>",
            bin.events, bin.stated, bin.observed
        );
    }
    out.push_str("</svg>");
}

fn figure(out: &mut String, sight: &Sight) {
    let data = base64::engine::general_purpose::STANDARD.encode(&sight.jpeg);
    let sure = sight.confidence.map(|c| format!(", confidence {c:.2}")).unwrap_or_default();
    let _ = write!(
        out,
        "<figure><img alt=\"\" src=\"data:image/jpeg;base64,{data}\"><figcaption>{} · {} · {}{sure}</figcaption></figure>",
        escape(&sight.situation),
        escape(&sight.camera),
        sight.at.strftime("day %-d, %H:%M:%S"),
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_everything_and_escapes_what_it_is_given() {
        let sight = Sight {
            what: What::FalseAlarm,
            camera: "<c>".into(),
            situation: "s".into(),
            at: Timestamp::UNIX_EPOCH,
            confidence: Some(0.5),
            jpeg: vec![1, 2, 3],
        };
        let judged = Judged { situations: vec!["s".into()], ..Judged::default() };
        let page = page("a & b", &["said".into()], &judged, &[sight]);
        assert!(page.contains("a &amp; b") && page.contains("&lt;c&gt;") && page.contains("base64,AQID"));
        assert!(page.contains("False alarms (1)") && page.contains("Missed (0)"));
        assert!(!page.contains("http"), "nothing is fetched from elsewhere");
    }
}
