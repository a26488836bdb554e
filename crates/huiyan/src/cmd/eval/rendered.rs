//! `huiyan eval --rendered`: days of rendered streets, several at a time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use fleet::ModelCard;
use infer::{Model, Runtime};
use serde_json::json;
use sim::street::{Plan, Setting};

use super::street::{LENIENT_SCORE, Play, Played};
use super::{Args, Outcome, fit};
use crate::UserError;
use crate::cmd::demo::model_dir;
use crate::table::Table;

/// Size of the pictures.
pub const SIZE: (u32, u32) = (640, 360);

/// The folder of the shipped situations: beside the folder of models.
pub fn situations_dir() -> anyhow::Result<PathBuf> {
    let (here, program) = (std::env::current_dir()?, std::env::current_exe()?);
    let found = here.ancestors().chain(program.ancestors()).map(|dir| dir.join("configs/situations"));
    let there = |dir: &PathBuf| dir.join("illegal_parking.yaml").exists();
    found.into_iter().find(there).ok_or_else(|| {
        UserError("configs/situations is not in this folder or above it; run in the project's folder".into())
            .into()
    })
}

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let dir = model_dir(args.model.as_deref())?;
    let card = ModelCard::load(&dir).map_err(|mistakes| UserError(mistakes.to_string()))?;
    let situations = situations_dir()?;
    let play = Play {
        every: args.every,
        situations: &situations,
        model_dir: &dir,
        card: &card,
        gate: !args.no_gate,
        pictures: args.html.is_some() || args.json,
        lenient: args.lenient,
    };
    let hours = args.hours.unwrap_or(24.0);
    if !(0.2..=240.0).contains(&hours) {
        return Err(UserError(format!("--hours {hours}: expected 0.2 to 240")).into());
    }
    let settings = args.settings();
    let plan = |seed: &u64, setting: &Setting| Plan {
        seed: *seed,
        setting: *setting,
        hours: hours as f32,
        clean: false,
        size: SIZE,
    };
    let plans: Vec<Plan> = settings
        .iter()
        .flat_map(|setting| args.seeds.0.iter().map(move |seed| plan(seed, setting)))
        .collect();
    let began = std::time::Instant::now();
    let played = all(&play, &plans, args.jobs)?;
    let outcome = outcome(args, &plans, played, began.elapsed().as_secs_f64());
    if let Some(path) = &args.fit_confidence {
        fit::write(path, &outcome, &card, &play.rules()?)?;
    }
    Ok(outcome)
}

/// Plays every day; the results in the order of the plans.
pub fn all(play: &Play<'_>, plans: &[Plan], jobs: Option<usize>) -> anyhow::Result<Vec<Played>> {
    let dwells = play.dwells()?;
    let runtime = Runtime::load(None)?;
    let looks: f64 =
        plans.iter().map(|plan| f64::from(plan.hours) * 3_600.0 / play.every.as_secs_f64()).sum();
    let bar = crate::cmd::playback::progress(looks as u64);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Played)>> = Mutex::new(Vec::new());
    let work = || -> anyhow::Result<()> {
        let mut model = Model::open(&runtime, Arc::new(play.card.clone()))?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(plan) = plans.get(number) else { return Ok(()) };
            let played = play
                .day(*plan, dwells, &mut model, &|| bar.inc(1))
                .with_context(|| format!("seed {}, {}", plan.seed, plan.setting.name()))?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, played));
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = jobs.unwrap_or(cores).clamp(1, plans.len().max(1));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect::<anyhow::Result<Vec<()>>>()
    })?;
    bar.finish_and_clear();
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, played)| played).collect())
}

fn outcome(args: &Args, plans: &[Plan], played: Vec<Played>, took: f64) -> Outcome {
    let mut sum = Played::default();
    for day in played {
        sum.judged.add(day.judged);
        sum.sights.extend(day.sights);
        sum.looks += day.looks;
        sum.inferred += day.inferred;
        sum.suspended += day.suspended;
        sum.detector.add(day.detector);
    }
    let share = |part: u64| 100.0 * part as f64 / sum.looks.max(1) as f64;
    let hours: f64 = plans.iter().map(|plan| f64::from(plan.hours)).sum();
    let said = vec![
        format!(
            "{} days of rendered streets, {hours:.1} hours in all, seeds {:?}, one look per {} s: {} looks, the model looked at {:.0} % \
             of them; the camera was taken to be moved, covered or blurred in {:.2} % of them.",
            plans.len(),
            args.seeds.0,
            args.every.as_secs_f64(),
            sum.looks,
            share(sum.inferred),
            share(sum.suspended),
        ),
        match args.lenient {
            true => format!(
                "Rules as lenient as the model: every detection from {LENIENT_SCORE} on, half the company."
            ),
            false => "Rules as they are shipped.".to_owned(),
        },
        format!("It took {took:.0} s ({:.1} ms per look).", 1_000.0 * took / sum.looks.max(1) as f64),
    ];
    let rows = sum.detector.rows();
    let settings: Vec<String> = Setting::ALL.map(|s| s.name().to_owned()).to_vec();
    let mut headings = vec!["detector: recall (boxes of nothing per 1,000 looks)".to_owned()];
    headings.extend(settings.iter().map(|s| format!(">{s}")));
    headings.push(String::new());
    let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    let mut detector = serde_json::Map::new();
    for (class, by_setting) in &rows {
        let cell = |setting: &String| {
            by_setting
                .get(setting)
                .map_or(String::new(), |(recall, wrong)| format!("{recall:.3} ({:.1})", 1_000.0 * wrong))
        };
        let mut row = vec![class.name().to_owned()];
        row.extend(settings.iter().map(cell));
        row.push(String::new());
        table.row(row);
        let of = by_setting.iter().map(|(setting, (recall, wrong))| {
            (setting.clone(), json!({ "recall": recall, "false_boxes_per_look": wrong }))
        });
        detector.insert(class.name().into(), serde_json::Value::Object(of.collect()));
    }
    Outcome {
        title: "Rendered streets".into(),
        said,
        judged: sum.judged,
        sights: sum.sights,
        more: json!({
            "seeds": args.seeds.0, "looks": sum.looks, "inferred": sum.inferred, "suspended": sum.suspended, "seconds": took,
            "every_s": args.every.as_secs_f64(), "detector": detector,
        }),
        tables: vec![table],
    }
}
