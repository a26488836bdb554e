//! `huiyan bench deliver`: from the decision to the broker's PUBACK, through the outbox on disk and a real mosquitto,
//! beside rumqttc alone with the same messages; and an outage: what is lost, how fast it drains, what it takes in memory.

mod bare;
mod broker;
mod inbox;
mod load;
mod receiver;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fleet::{Fleet, ModelCard};
use flow::Frame;
use publish::wire::ModelInfo;
use publish::{Delivered, Link, Publisher};
use tokio::runtime::Runtime;

use super::material::TempFolder;
use super::report::{Figure, fit};
use super::{cpu, positive, step};
use crate::UserError;
use crate::cmd::demo::model_dir;
use broker::Broker;
use load::Load;
use receiver::Receiver;

/// Turns that ours and the peer take.
const ROUNDS: usize = 3;
/// What waits may take so long to arrive at the end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Messages that the peer publishes as fast as it can, two for each event.
const BARE_EVENTS: usize = 15_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Events a second
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Events a second while each has an evidence picture of 640x360, which is blurred and coded as well
    #[arg(long, default_value_t = 50.0)]
    picture_rate: f64,
    /// Seconds of each of three rounds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long the broker is away, for example 60s
    #[arg(long, default_value = "60s", value_parser = seconds)]
    outage: f64,
    /// Folder on the disk to measure [default: among the temporary files]
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number =
        text.trim_end_matches('s').parse().map_err(|_| format!("{text:?}: expected seconds, as in 60s"))?;
    if (0.0..=3_600.0).contains(&number) { Ok(number) } else { Err(format!("{text}: expected 0s to 3600s")) }
}

/// What is measured of one publisher.
struct Ours {
    publisher: Publisher,
    probe: Arc<Probe>,
}

/// Milliseconds from the decision to the PUBACK.
#[derive(Default)]
struct Probe {
    records: AtomicBool,
    ms: Mutex<Vec<f64>>,
}

impl Probe {
    fn hear(&self, delivered: &Delivered) {
        let Some(submitted) = delivered.submitted.filter(|_| self.records.load(Ordering::Relaxed)) else {
            return;
        };
        let took = delivered.acked.saturating_duration_since(submitted);
        self.lock().push(1e3 * took.as_secs_f64());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<f64>> {
        self.ms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    for (flag, rate) in [("--rate", args.rate), ("--picture-rate", args.picture_rate)] {
        if !(1.0..=100_000.0).contains(&rate) {
            return Err(UserError(format!("{flag} {rate}: expected 1 to 100000 events a second")).into());
        }
    }
    let window = Duration::from_secs_f64(positive(args.seconds, "--seconds")?);
    let runtime = Runtime::new()?;
    let mut broker = Broker::start()?;
    let temporary = TempFolder::new()?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let dir = dir.join("deliver");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let (fleet, model) = fleet(&dir, &broker)?;
    let mut load = Load::new(&fleet, model)?;

    let mut figures = sync_cost(&dir)?;
    let expected = args.rate * (args.outage + 30.0) + args.picture_rate * args.seconds;
    let events = (expected + args.rate * args.seconds * ROUNDS as f64) as usize;
    let receiver = runtime.block_on(Receiver::start(broker.addr(), &fleet.site, events))?;
    let ours = start(&fleet, &runtime)?;
    let from = load.made();
    let mut bare = (Vec::new(), Vec::new());
    let mut mine: Vec<f64> = Vec::new();
    for round in 1..=ROUNDS {
        step(&format!("deliver: {} events/s, round {round} of {ROUNDS}", args.rate));
        mine.extend(ours.measure(&mut load, args.rate, window, None)?);
        let count = ((args.rate * args.seconds) as usize).max(1);
        // The peer's events are its own: what ours has to deliver is counted.
        let mut others = Load::new(&fleet, ours_model(&fleet)?)?;
        bare.0.extend(
            runtime
                .block_on(bare::publish(
                    broker.addr(),
                    (&mut others, &ours.publisher),
                    count,
                    Some(args.rate),
                ))?
                .0,
        );
        let count = BARE_EVENTS.min(20 * count);
        let (_, took) =
            runtime.block_on(bare::publish(broker.addr(), (&mut others, &ours.publisher), count, None))?;
        bare.1.push(2.0 * count as f64 / took.as_secs_f64());
    }
    figures.extend(latencies(&mut mine, Some(&mut bare.0), ""));
    step(&format!("deliver: {} events/s with pictures", args.picture_rate));
    let frame = load::picture(&load)?;
    let mut with = ours.measure(&mut load, args.picture_rate, window, Some(&frame))?;
    figures.extend(latencies(&mut with, None, ".pictures"));

    step(&format!("deliver: the broker is away for {} s", args.outage));
    let floor = super::report::median(bare.1.into_iter());
    figures.extend(outage(args, &ours, &mut load, &mut broker, &receiver, floor)?);
    step("deliver: a desk that was away");
    figures.push(inbox::measure(&runtime, &fleet, &ours, &mut load, &dir)?);
    let all: Vec<_> = (from..load.made()).map(|n| load.id(n)).collect();
    let (lost, doubled) = receiver.judge(all.iter().copied());
    figures.push(Figure::plain("deliver.events", all.len() as f64, "events"));
    figures.push(Figure::plain("deliver.lost", lost as f64, "events"));
    figures.push(Figure::plain("deliver.heard_again", doubled as f64, "events"));
    let left = runtime.block_on(ours.publisher.stop(Duration::from_secs(1)))?;
    figures.push(Figure::plain("deliver.left", left.messages as f64, "messages"));
    Ok(figures)
}

/// One camera and one situation, and our broker.
fn fleet(dir: &Path, broker: &Broker) -> anyhow::Result<(Fleet, ModelInfo)> {
    let models = model_dir(None)?;
    let card = ModelCard::load(&models).map_err(|mistakes| UserError(mistakes.to_string()))?;
    let urls = ["rtsp://127.0.0.1/1".to_owned()];
    let mut fleet =
        crate::fleet_text::anything_that_stands(&card, &models, Duration::from_secs(60), &urls, None)?;
    (fleet.broker.host, fleet.broker.port) = (broker.addr().ip().to_string(), broker.addr().port());
    fleet.data_dir = dir.to_owned();
    let model = ours_model(&fleet)?;
    Ok((fleet, model))
}

fn ours_model(fleet: &Fleet) -> anyhow::Result<ModelInfo> {
    let camera = fleet.cameras.first().context("a fleet with a camera")?;
    Ok(ModelInfo { id: camera.model.clone(), version: "1.0.0".into(), sha256: "0".repeat(64) })
}

fn start(fleet: &Fleet, runtime: &Runtime) -> anyhow::Result<Ours> {
    let publisher = Publisher::start(publish::Options::from_fleet(fleet), runtime.handle())?;
    let probe = Arc::new(Probe::default());
    let hears = probe.clone();
    publisher.observe(move |delivered| hears.hear(delivered));
    let ours = Ours { publisher, probe };
    ours.wait("a connection", |ours| matches!(ours.publisher.metrics().link, Link::Up { .. }))?;
    Ok(ours)
}

impl Ours {
    /// Milliseconds of each event of a window.
    fn measure(
        &self,
        load: &mut Load,
        rate: f64,
        window: Duration,
        picture: Option<&Frame>,
    ) -> anyhow::Result<Vec<f64>> {
        self.probe.records.store(true, Ordering::Relaxed);
        load.run(&self.publisher, rate, picture, |passed| passed >= window)?;
        self.wait("the last PUBACK", |ours| ours.publisher.metrics().outbox.messages == 0)?;
        self.probe.records.store(false, Ordering::Relaxed);
        Ok(std::mem::take(&mut *self.probe.lock()))
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        // What was handed over may not yet be counted.
        std::thread::sleep(Duration::from_millis(50));
        while !done(self) {
            if Instant::now() > deadline {
                anyhow::bail!("{what}: not within {PATIENCE:?}; {:?}", self.publisher.metrics());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Events go on; the broker goes, and comes back.
fn outage(
    args: &Args,
    ours: &Ours,
    load: &mut Load,
    broker: &mut Broker,
    receiver: &Receiver,
    floor: Option<f64>,
) -> anyhow::Result<Vec<Figure>> {
    let publisher = &ours.publisher;
    broker.stop()?;
    let before = cpu::resident_kib()?;
    let mut memory: Vec<(f64, f64)> = Vec::with_capacity(8_192);
    let mut failed = None;
    load.run(publisher, args.rate, None, |passed| {
        let seconds = passed.as_secs_f64();
        if memory.last().is_none_or(|(last, _)| seconds - last >= 0.5) {
            match cpu::resident_kib() {
                Ok(kib) => memory.push((seconds, kib)),
                Err(error) => failed = Some(error),
            }
        }
        seconds >= args.outage
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let waiting = publisher.metrics().outbox;
    step(&format!("deliver: {} messages wait, the broker comes back", waiting.messages));
    broker.restart()?;
    let back = Instant::now();
    let (mut up, mut drained, mut sent, mut at_up) = (None, None, 0, 0);
    let enough = (args.rate / 10.0).max(20.0) as u64;
    load.run(publisher, args.rate, None, |passed| {
        let metrics = publisher.metrics();
        if up.is_none() && matches!(metrics.link, Link::Up { .. }) {
            (up, at_up) = (Some(Instant::now()), metrics.messages_acked);
        }
        if up.is_some() && metrics.outbox.messages <= enough {
            (drained, sent) = (Some(Instant::now()), metrics.messages_acked - at_up);
        }
        drained.is_some() || passed > PATIENCE
    })?;
    let (up, drained) =
        (up.context("no connection after the outage")?, drained.context("it does not drain")?);
    let peak = memory.iter().map(|(_, kib)| *kib).fold(cpu::resident_kib()?, f64::max);
    ours.wait("everything is sent", |ours| ours.publisher.metrics().outbox.messages == 0)?;
    let deadline = Instant::now() + PATIENCE;
    let (mut heard, mut since) = (receiver.messages(), Instant::now());
    // Until nothing has come for a second: what is lost would be waited for in vain.
    while since.elapsed() < Duration::from_secs(1) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        if receiver.messages() != heard {
            (heard, since) = (receiver.messages(), Instant::now());
        }
    }
    tracing::debug!(events = receiver.events(), "heard");
    let half = memory.len() / 2;
    let slope = fit(&memory[half..]).map_or(0.0, |(slope, _)| slope);
    let rate = sent as f64 / (drained - up).as_secs_f64().max(1e-3);
    Ok(vec![
        Figure {
            name: "deliver.drain_per_second".into(),
            value: rate,
            unit: "messages / s",
            floor,
            ratio: floor.map(|floor| rate / floor),
        },
        Figure::plain("deliver.waited", waiting.messages as f64, "messages"),
        Figure::plain("deliver.outage_drained_s", (drained - back).as_secs_f64(), "s"),
        Figure::plain("deliver.reconnect_s", (up - back).as_secs_f64(), "s"),
        Figure::plain("deliver.rss_kib_per_second", slope, "KiB / s"),
        Figure::plain("deliver.rss_growth_kib", peak - before, "KiB"),
        Figure::plain("deliver.rss_peak_kib", peak, "KiB"),
    ])
}

/// p50 and p99, beside the peer's.
fn latencies(mine: &mut [f64], bare: Option<&mut Vec<f64>>, suffix: &str) -> Vec<Figure> {
    mine.sort_by(f64::total_cmp);
    let bare = bare.map(|bare| {
        bare.sort_by(f64::total_cmp);
        &*bare
    });
    let figure = |name: &str, share: f64| {
        let value = quantile(mine, share);
        let floor = bare.map(|bare| quantile(bare, share));
        let ratio = floor.map(|floor| floor / value);
        Figure { name: format!("deliver.event_{name}_ms{suffix}"), value, unit: "ms", floor, ratio }
    };
    vec![figure("p50", 0.5), figure("p99", 0.99)]
}

/// Of sorted values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
}

/// What the disk takes for the smallest thing that survives a power cut: 4 KiB appended and synced.
fn sync_cost(dir: &Path) -> anyhow::Result<Vec<Figure>> {
    let path = dir.join("sync");
    let mut file = File::create(&path)?;
    let once = |_| {
        let began = Instant::now();
        file.write_all(&[7; 4_096])?;
        file.sync_data()?;
        Ok(1e3 * began.elapsed().as_secs_f64())
    };
    let mut ms = (0..200).map(once).collect::<anyhow::Result<Vec<f64>>>()?;
    std::fs::remove_file(&path)?;
    ms.sort_by(f64::total_cmp);
    Ok(vec![
        Figure::plain("deliver.disk_sync_p50_ms", quantile(&ms, 0.5), "ms"),
        Figure::plain("deliver.disk_sync_p99_ms", quantile(&ms, 0.99), "ms"),
    ])
}
