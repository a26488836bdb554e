//! `huiyan eval`: events against what is true.
//!
//! Four ways to come by the two: files (`EVENTS TRUTH`), real clips with their stated truth (`--clip`), rendered streets
//! played through detector, gate and scene (`--rendered`), and clean days at the level of detections (`--noise`).

mod clean;
mod clips;
mod figures;
mod fit;
mod matching;
mod noise;
mod page;
mod read;
mod rendered;
mod street;

use std::path::{Path, PathBuf};
use std::time::Duration;

use flow::Timestamp;
use serde_json::json;
use sim::street::Setting;

use crate::UserError;
use crate::table::{Table, width};
use figures::{Figures, Judged};
use page::Sight;

/// Compare events with what is true: of files, of clips, or of rendered streets played through the pipeline.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Events, as JSON lines that `huiyan replay` printed
    #[arg(requires = "truth", conflicts_with_all = ["rendered", "clip"])]
    events: Option<PathBuf>,
    /// What is true: *.situations.json of `huiyan sim`, or YAML or JSON with camera, hours, light, weather and situations
    truth: Vec<PathBuf>,
    /// Videos in which the pictures of what went wrong are found, by name
    #[arg(long, requires = "events")]
    video: Vec<PathBuf>,
    /// When the events' cameras began; times in the truth count from here
    #[arg(long, default_value = "2000-01-01T00:00:00Z")]
    start: Timestamp,

    /// Replay these videos and compare with NAME.truth.yaml or NAME.situations.json beside each; without one, nothing happens
    /// in it
    #[arg(long, conflicts_with = "rendered")]
    clip: Vec<PathBuf>,
    /// With --clip: a fleet's YAML; the zones and rules of its first camera are used instead of those of the truth
    #[arg(long, requires = "clip")]
    zones: Option<PathBuf>,

    /// With --clip: time-lapse, pictures so far apart; something must stay on three of them
    #[arg(long, requires = "clip", value_parser = super::duration)]
    lapse: Option<Duration>,

    /// Play days of rendered streets through detector, gate and scene, on simulated time
    #[arg(long)]
    rendered: bool,
    /// Seeds of the streets: 101..104 (both ends), or 7,9. Seeds from 101 to 199 are for measuring: nothing is tuned on them
    #[arg(long, default_value = "1..2", value_parser = seeds)]
    seeds: Seeds,
    /// Length of each day; with EVENTS, for how long each camera was watched
    #[arg(long)]
    hours: Option<f64>,
    /// Light and weather, of: day, night, rain, headlights, shadows, shake [default: all]
    #[arg(long, value_delimiter = ',', value_parser = setting)]
    light: Vec<Setting>,
    /// One look per so long
    #[arg(long, default_value = "10s", value_parser = super::duration)]
    every: Duration,
    /// Days played at the same time [default: one per core]
    #[arg(long)]
    jobs: Option<usize>,
    /// Have the model look at every picture
    #[arg(long)]
    no_gate: bool,
    /// Believe weaker detections and less company: there are false events then, from which to learn what confidence is worth
    #[arg(long, requires = "rendered")]
    lenient: bool,
    /// Learn what the stated confidence is worth and write it to this file; beside the model's card it is named
    /// confidence.yaml, and events state what it says
    #[arg(long, requires = "rendered")]
    fit_confidence: Option<PathBuf>,

    /// Play clean days at the level of detections, with the noise in the model's noise.yaml
    #[arg(long, conflicts_with_all = ["rendered", "clip", "events"])]
    noise: bool,
    /// With --noise: how many days
    #[arg(long, default_value_t = 150)]
    camera_days: u32,
    /// Measure the detector's noise on rendered clean days (--seeds, --hours, --light, --every) and write it to this file
    #[arg(long, conflicts_with_all = ["rendered", "clip", "events", "noise"])]
    measure_noise: Option<PathBuf>,

    /// Folder of the model's card [default: models/street-demo]
    #[arg(long)]
    model: Option<PathBuf>,
    /// Write a page with a picture of every miss and every false alarm
    #[arg(long)]
    html: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    fn settings(&self) -> Vec<Setting> {
        if self.light.is_empty() { Setting::ALL.to_vec() } else { self.light.clone() }
    }
}

/// Seeds, as written on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

/// More seeds than this are a slip of the keyboard.
const MAX_SEEDS: usize = 10_000;

fn seeds(text: &str) -> Result<Seeds, String> {
    let wrong = || format!("{text:?} is neither a range like 101..104 (both ends) nor a list like 7,9");
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
    let list = match text.split_once("..") {
        Some((from, to)) => (number(from)?..=number(to)?).take(MAX_SEEDS + 1).collect::<Vec<_>>(),
        None => text.split(',').map(number).collect::<Result<_, _>>()?,
    };
    match list.len() {
        0 => Err(wrong()),
        n if n > MAX_SEEDS => Err(format!("{text:?} are more than {MAX_SEEDS} seeds")),
        _ => Ok(Seeds(list)),
    }
}

fn setting(text: &str) -> Result<Setting, String> {
    let names = Setting::ALL.map(Setting::name).join(", ");
    Setting::named(text).ok_or_else(|| format!("{text:?} is none of {names}"))
}

/// What an evaluation found.
struct Outcome {
    title: String,
    /// What a reader should know, in sentences.
    said: Vec<String>,
    judged: Judged,
    sights: Vec<Sight>,
    /// More for the JSON.
    more: serde_json::Value,
    /// More for the terminal.
    tables: Vec<Table>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    if let Some(out) = &args.measure_noise {
        return noise::measure(&args, out);
    }
    let outcome = if args.noise {
        clean::run(&args)?
    } else if args.rendered {
        rendered::run(&args)?
    } else if !args.clip.is_empty() {
        clips::run(&args)?
    } else if let Some(events) = &args.events {
        files(&args, events)?
    } else {
        return Err(UserError(
            "say what to evaluate: EVENTS TRUTH, --clip FILE, --rendered or --noise".into(),
        )
        .into());
    };
    if let Some(path) = &args.html {
        let page = page::page(&outcome.title, &outcome.said, &outcome.judged, &outcome.sights);
        std::fs::write(path, page).map_err(|e| UserError(format!("{}: {e}", path.display())))?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome.json())?);
    } else {
        outcome.print();
    }
    Ok(())
}

/// Events and truth out of files.
fn files(args: &Args, events: &Path) -> anyhow::Result<Outcome> {
    let told = read::events(events)?;
    let mut judged = Judged::default();
    for path in &args.truth {
        let truth = read::truth(path, args.start, args.hours)?;
        judged.stretches.push(truth.stretch);
        judged.truth.extend(truth.list);
    }
    let unknown = |camera: &String| judged.stretches.iter().all(|s| s.camera != *camera);
    let strangers = read::names(told.iter().map(|e| &e.camera).filter(|camera| unknown(camera)));
    let mut said = vec![format!("{} against {} of truth.", events.display(), judged.stretches.len())];
    if !strangers.is_empty() {
        said.push(format!(
            "Of these cameras nothing is known, and their events are left out: {}.",
            strangers.join(", ")
        ));
    }
    judged.told = told.into_iter().filter(|e| !strangers.contains(&e.camera)).collect();
    judged.verdicts = matching::judge(&judged.told, &judged.truth);
    let kinds = judged.truth.iter().map(|t| &t.situation).chain(judged.told.iter().map(|e| &e.situation));
    judged.situations = read::names(kinds);
    let sights = clips::sights(&judged, &args.video, args.start, None)?;
    Ok(Outcome {
        title: "Events against truth".into(),
        said,
        judged,
        sights,
        more: json!({}),
        tables: vec![],
    })
}

impl Outcome {
    fn json(&self) -> serde_json::Value {
        let wrong = |what| -> Vec<_> {
            let of = self.sights.iter().filter(|sight| sight.what == what);
            of.map(|s| json!({ "camera": s.camera, "situation": s.situation, "at": s.at, "confidence": s.confidence })).collect()
        };
        let reliability: serde_json::Map<_, _> = self
            .judged
            .situations
            .iter()
            .map(|name| (name.clone(), json!(self.judged.reliability(Some(name)))))
            .collect();
        let uncalibrated: serde_json::Map<_, _> = self
            .judged
            .situations
            .iter()
            .map(|name| (name.clone(), json!(self.judged.reliability_uncalibrated(Some(name)))))
            .collect();
        let mut out = json!({
            "title": self.title,
            "said": self.said,
            "situations": self.judged.figures(|_| true),
            "by": self.judged.split(),
            "reliability": reliability,
            "reliability_of_all": self.judged.reliability(None),
            "reliability_uncalibrated": uncalibrated,
            "truth": self.judged.truth,
            "events": self.judged.told,
            "missed": wrong(page::What::Missed),
            "false_alarms": wrong(page::What::FalseAlarm),
            "duplicates": wrong(page::What::Duplicate),
        });
        if let (Some(out), Some(more)) = (out.as_object_mut(), self.more.as_object()) {
            out.extend(more.clone());
        }
        out
    }

    fn print(&self) {
        let columns = width();
        println!("{}", self.title);
        self.said.iter().for_each(|line| println!("{line}"));
        let mut table = Table::new(&[
            "",
            "situation",
            ">precision",
            ">recall",
            ">F1",
            ">onset p50",
            ">p95",
            ">per true",
            ">false/day",
            ">days",
            ">there",
            ">found",
            ">false",
            "",
        ]);
        let mut add = |group: &str, figures: &std::collections::BTreeMap<String, Figures>| {
            for (situation, f) in figures {
                table.row(vec![
                    group.to_owned(),
                    situation.clone(),
                    page::share(f.precision),
                    page::share(f.recall),
                    page::share(f.f1),
                    page::seconds(f.onset_p50_s),
                    page::seconds(f.onset_p95_s),
                    page::share(f.duplicates_per_event),
                    page::share(f.false_alarms_per_camera_day),
                    format!("{:.1}", f.camera_days),
                    f.situations.to_string(),
                    f.found.to_string(),
                    f.false_alarms.to_string(),
                    String::new(),
                ]);
            }
        };
        for (key, values) in self.judged.split() {
            // One value says nothing that the whole does not say.
            if values.len() > 1 {
                values.iter().for_each(|(value, figures)| add(&format!("{key} {value}"), figures));
            }
        }
        add("all", &self.judged.figures(|_| true));
        table.lines(columns.max(150), "").iter().for_each(|line| println!("{line}"));
        for name in &self.judged.situations {
            let curve = self.judged.reliability(Some(name));
            let bins = curve.bins.iter().map(|b| format!("{:.2}→{:.2} ({})", b.stated, b.observed, b.events));
            let error = page::share(curve.expected_calibration_error);
            println!(
                "confidence of {name}, stated→true (events): {}; calibration error {error} (uncalibrated: {})",
                bins.collect::<Vec<_>>().join(", "),
                page::share(self.judged.reliability_uncalibrated(Some(name)).expected_calibration_error),
            );
        }
        for table in &self.tables {
            println!();
            table.lines(columns.max(150), "").iter().for_each(|line| println!("{line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_or_a_list() {
        assert_eq!(seeds("101..104"), Ok(Seeds(vec![101, 102, 103, 104])));
        assert_eq!(seeds("7,9"), Ok(Seeds(vec![7, 9])));
        assert!(seeds("7..x").unwrap_err().contains("101..104"));
        assert!(seeds("9..7").is_err());
        assert!(seeds("0..99999999").unwrap_err().contains("more than"));
        assert!(setting("fog").unwrap_err().contains("headlights"));
    }
}
