//! Results for other programs.

use std::io::Write as _;
use std::path::Path;

use ingest::probe::{Outcome, Probed};
use serde_json::{Value, json};

use super::{Found, survey};

/// Everything, with the sums.
pub fn json(found: &Found) -> Value {
    let failed = found.probed.iter().filter(|probed| super::failure(probed).is_some()).count();
    json!({
        "asked": found.asked,
        "probed": found.probed.len(),
        "failed": failed,
        "stopped": found.stopped,
        "histograms": survey::Histograms::of(&found.probed).json(),
        "cameras": found.probed,
    })
}

/// One line per camera (RFC 4180).
pub fn csv(path: &Path, probed: &[Probed]) -> std::io::Result<()> {
    const HEADINGS: [&str; 20] = [
        "camera",
        "url",
        "transport",
        "state",
        "reason",
        "server",
        "login",
        "codec",
        "profile",
        "level",
        "width",
        "height",
        "fps",
        "bit_rate",
        "key_interval_s",
        "key_kinds",
        "loss_percent",
        "clock_offset_s",
        "via",
        "unusual",
    ];
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    write!(file, "{}\r\n", HEADINGS.join(","))?;
    for one in probed {
        let cells = cells(one);
        debug_assert_eq!(cells.len(), HEADINGS.len());
        let line: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
        write!(file, "{}\r\n", line.join(","))?;
    }
    file.flush()
}

fn cells(probed: &Probed) -> Vec<String> {
    let server = probed.server.as_ref();
    let software = server.and_then(|server| server.software.clone()).unwrap_or_default();
    let auth = server.map(|server| server.auth.join(" ")).unwrap_or_default();
    let mut cells = vec![probed.camera.to_string(), probed.url.clone(), probed.transport.to_owned()];
    match &probed.outcome {
        Outcome::Failed(failure) => {
            cells.extend([failure.state.to_owned(), failure.reason.clone(), software, auth]);
            cells.resize(20, String::new());
        }
        Outcome::Seen(seen) => {
            let number = |value: Option<f64>| value.map(|v| format!("{v:.3}")).unwrap_or_default();
            let picture = seen.picture.as_ref();
            let kinds: Vec<&str> = seen.key_kinds.iter().map(|kind| kind.name()).collect();
            cells.extend(["streaming".to_owned(), String::new(), software, auth, seen.codec.clone()]);
            cells.extend([
                picture.map(|p| p.profile.clone()).unwrap_or_default(),
                picture.map(|p| p.level.clone()).unwrap_or_default(),
                picture.map(|p| p.width.to_string()).unwrap_or_default(),
                picture.map(|p| p.height.to_string()).unwrap_or_default(),
                number(seen.fps),
                number(seen.bit_rate),
                number(seen.usual_key_interval_s()),
                kinds.join("; "),
                number(Some(seen.loss_percent)),
                number(seen.clock_offset_s),
                seen.via.to_owned(),
                seen.odd.join("; "),
            ]);
        }
    }
    cells
}

/// What a spreadsheet would take for a formula is kept from being one: servers' names are whatever they like.
fn quoted(cell: &str) -> String {
    let formula =
        cell.starts_with(['=', '@', '+', '\t']) || cell.starts_with('-') && cell.parse::<f64>().is_err();
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_survive_commas_quotes_and_spreadsheets() {
        assert_eq!(quoted("a"), "a");
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(quoted("=HYPERLINK(1)"), "'=HYPERLINK(1)");
        assert_eq!(quoted("-0.250"), "-0.250");
        assert_eq!(quoted("-x"), "'-x");
    }
}
