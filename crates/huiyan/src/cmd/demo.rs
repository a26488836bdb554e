//! `huiyan demo`: a street, a broker, the pipeline and the desk in one process; nothing to configure.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use desk::Desk;
use fleet::{Fleet, ModelCard};
use flow::Codec;
use serde_json::json;
use sim::rtsp::{Mount, Server};
use sim::street::{self, Timeline};
use sim::{Clip, Plan, SimCamera};
use tokio::sync::Notify;

use super::{duration, interrupted, runtime};
use crate::live::Live;
use crate::pipeline::{Pipeline, Report, Told};
use crate::{UserError, broker, fleet_text};

/// How long a thing stands before it is a situation, in the demo's streets. A county waits minutes.
const DWELL: Duration = Duration::from_secs(10);
/// Rows of cameras in the table; more would not fit a terminal.
const ROWS: usize = 12;

/// A simulated street, a broker, the pipeline and the desk in one process; nothing to configure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stop after this long, for example 60s
    #[arg(long = "for", value_parser = duration)]
    limit: Option<Duration>,
    /// Stop as soon as a situation has begun and the desk has its case; fails if none does within --for
    #[arg(long)]
    until_event: bool,
    /// How many simulated cameras
    #[arg(long, default_value_t = 8)]
    cameras: usize,
    /// Instead of streets, serve this video file (give --model too: the demo's own knows drawings only)
    #[arg(long, conflicts_with = "rtsp")]
    video: Option<PathBuf>,
    /// Instead of streets, watch this camera; may be given several times
    #[arg(long)]
    rtsp: Vec<String>,
    /// Folder of the card of another model
    #[arg(long)]
    model: Option<PathBuf>,
    /// User name for --rtsp; the password is read from the environment variable HUIYAN_RTSP_PASSWORD
    #[arg(long, requires = "rtsp")]
    user: Option<String>,
    /// Port of the demo's MQTT broker on 127.0.0.1; 0: a free one
    #[arg(long, default_value_t = 0)]
    mqtt_port: u16,
    /// Port of the desk's page on 127.0.0.1; 0: a free one
    #[arg(long, default_value_t = 8080)]
    desk_port: u16,
    /// Where events and evidence are kept [default: a new folder among the temporary files]
    #[arg(long)]
    data: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    runtime()?.block_on(demo(args))
}

async fn demo(args: Args) -> anyhow::Result<()> {
    // Both ends of each session are in this process.
    crate::descriptors::raise_for(2 * args.cameras.max(args.rtsp.len()))?;
    let data = match &args.data {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("huiyan-demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&data).with_context(|| data.display().to_string())?;

    let streets = args.video.is_none() && args.rtsp.is_empty();
    println!("{}", if streets { "Rendering streets; this takes some seconds." } else { "Opening." });
    let model_dir = model_dir(args.model.as_deref())?;
    let card = ModelCard::load(&model_dir).map_err(|mistakes| UserError(mistakes.to_string()))?;
    let server = Server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let mut fleet = if streets {
        streets_fleet(&args, &server, &model_dir).await?
    } else {
        own_fleet(&args, &server, &card, &model_dir)?
    };
    let mqtt = broker::start(args.mqtt_port)?;
    fleet.broker.host = mqtt.ip().to_string();
    fleet.broker.port = mqtt.port();
    fleet.desk.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, args.desk_port));
    fleet.data_dir = data;
    let fleet = Arc::new(fleet);

    let desk = Desk::start(desk::Options::from_fleet(&fleet))
        .await
        .map_err(|error| UserError(format!("{error}; choose another --desk-port")))?;
    println!("Cases:    http://{}/", desk.addr());
    println!("Messages: mosquitto_sub -V mqttv5 -p {} -t 'huiyan/v1/#' -v", mqtt.port());
    println!("Evidence: {}", fleet.data_dir.join("evidence").display());
    if let Some(url) = fleet.cameras.first().map(|camera| &camera.url) {
        println!("Cameras:  {url} and {} more", fleet.cameras.len() - 1);
    }

    let live = Arc::new(Live::new());
    let began = Arc::new(Began::default());
    let (out, seen) = (live.clone(), began.clone());
    let on_event = move |told: Told<'_>| {
        out.say(&fleet_text::event_line(&told));
        if told.event.phase == flow::Phase::Began {
            seen.count.fetch_add(1, Ordering::Relaxed);
            seen.wake.notify_one();
        }
    };
    let pipeline = Pipeline::start(&fleet, ingest::Policy::default(), Box::new(on_event))?;
    let outcome = watch(&args, &fleet, &pipeline, &desk, &live, &began).await;
    live.finish();
    let report = pipeline.stop().await;
    let cases = desk.counts();
    desk.stop().await;
    server.shutdown().await;
    println!("{}", summary(&report));
    println!(
        "The desk opened {} cases, attached {} messages, refused {}",
        cases.opened, cases.attached, cases.refused
    );
    outcome
}

/// How many situations have begun.
#[derive(Default)]
struct Began {
    count: AtomicU64,
    wake: Notify,
}

/// Shows the table until the time is over, the event has come, or the user has seen enough.
async fn watch(
    args: &Args,
    fleet: &Fleet,
    pipeline: &Pipeline,
    desk: &Desk,
    live: &Live,
    began: &Began,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let mut rate = Rate::default();
    let stop = interrupted();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = began.wake.notified(), if args.until_event => {}
            _ = tick.tick() => {}
        }
        let report = pipeline.report();
        let (looks, inferences) = rate.per_second(&report);
        let head = format!(
            "{:>5.0} s  {} cameras, {looks:.1} looks/s, {inferences:.1} inferences/s, {} events, {} situations, broker {}",
            started.elapsed().as_secs_f64(),
            fleet.cameras.len(),
            report.events,
            began.count.load(Ordering::Relaxed),
            report.broker,
        );
        live.table(&rows(fleet, pipeline, &head), &head);
        if args.until_event && began.count.load(Ordering::Relaxed) > 0 && desk.counts().opened > 0 {
            live.say(&format!("The desk has opened case {}: http://{}/", desk.counts().opened, desk.addr()));
            return Ok(());
        }
        match args.limit {
            Some(limit) if started.elapsed() >= limit && args.until_event => {
                bail!("no situation within {limit:?}; {}", summary(&report))
            }
            Some(limit) if started.elapsed() >= limit => return Ok(()),
            _ => {}
        }
    }
}

/// Looks and inferences per second over the last seconds.
#[derive(Default)]
struct Rate {
    past: std::collections::VecDeque<(Instant, u64, u64)>,
}

impl Rate {
    fn per_second(&mut self, report: &Report) -> (f64, f64) {
        let now = (Instant::now(), report.scene.passed, report.infer.passed);
        self.past.push_back(now);
        while self.past.len() > 10 {
            self.past.pop_front();
        }
        let first = self.past[0];
        let seconds = now.0.duration_since(first.0).as_secs_f64().max(0.1);
        ((now.1 - first.1) as f64 / seconds, (now.2 - first.2) as f64 / seconds)
    }
}

fn rows(fleet: &Fleet, pipeline: &Pipeline, head: &str) -> Vec<String> {
    let known: std::collections::HashMap<_, _> =
        pipeline.health().into_iter().map(|known| (known.health.camera.clone(), known)).collect();
    let mut rows = vec![String::new(), head.to_owned()];
    rows.push(format!(
        "       {:12} {:11} {:>7} {:>5} {:>6} {:>6} {:>6} {:>6}",
        "camera", "state", "watched", "fps", "Mbit/s", "key, s", "loss %", "looks"
    ));
    for camera in fleet.cameras.iter().take(ROWS) {
        let known = known.get(&camera.id);
        let health = known.map(|known| &known.health);
        let number = |value: Option<f32>| value.map_or("-".to_owned(), |v| format!("{v:.1}"));
        let bit_rate = health.and_then(|h| h.bit_rate).map(|bits| bits as f32 / 1e6);
        let watched = known.map_or(0.0, |known| {
            known.minutes.watched().as_secs_f64() / known.minutes.total().as_secs_f64().max(1e-3)
        });
        rows.push(format!(
            "       {:12} {:11} {:>5.0} % {:>5} {:>6} {:>6} {:>6} {:>6}  {}",
            camera.id.as_str(),
            health.map_or("-", |h| h.state.name()),
            watched * 100.0,
            number(health.and_then(|h| h.fps)),
            bit_rate.map_or("-".to_owned(), |mbit| format!("{mbit:.2}")),
            number(health.and_then(|h| h.key_interval_s)),
            number(health.and_then(|h| h.loss_percent)),
            pipeline.looks_of(&camera.id),
            health.map_or("", |h| h.reason.as_str()),
        ));
    }
    rows
}

fn summary(report: &Report) -> String {
    let dropped = |flow: &flow::Flow| {
        let some: Vec<_> =
            flow.dropped.iter().filter(|(_, n)| *n > 0).map(|(why, n)| format!("{n} {why}")).collect();
        if some.is_empty() { String::new() } else { format!(" ({})", some.join(", ")) }
    };
    format!(
        "pictures received {}{}, decoded {}{}, looked at {}{}; events {}, acknowledged by the broker {}, waiting {}",
        report.ingest.received,
        dropped(&report.ingest),
        report.decode.passed,
        dropped(&report.decode),
        report.infer.passed,
        dropped(&report.infer),
        report.events,
        report.publish.passed,
        report.outbox,
    )
}

/// The model's folder: the one given, or the demo's own, beside the current folder or the program.
pub fn model_dir(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(dir) = given {
        return Ok(dir.to_owned());
    }
    let program = std::env::current_exe()?;
    let here = std::env::current_dir()?;
    let found = here.ancestors().chain(program.ancestors()).map(|dir| dir.join("models/street-demo"));
    found.into_iter().find(|dir| dir.join("card.yaml").exists()).ok_or_else(|| {
        UserError("models/street-demo is not in this folder or above it; run in the project's folder, or give --model".into())
            .into()
    })
}

/// Cameras over the shipped streets.
async fn streets_fleet(args: &Args, server: &Server, model_dir: &Path) -> anyhow::Result<Fleet> {
    let names = street::SHIPPED.map(|(name, _)| name.to_owned());
    let timelines = super::sim::timelines(&names)?;
    let (timelines, films) = tokio::task::spawn_blocking(move || {
        let films = super::sim::render(&timelines, Codec::H264)?;
        anyhow::Ok((timelines, films))
    })
    .await??;
    let clips: Vec<_> = films.into_iter().map(|film| Arc::new(film.clip)).collect();
    let cameras = Plan::new(args.cameras).mount(server, &clips)?;
    let yaml = streets_yaml(&cameras, &timelines, model_dir)?;
    Fleet::from_yaml_str(&yaml, Path::new(".")).map_err(|mistakes| UserError(mistakes.to_string()).into())
}

fn streets_yaml(
    cameras: &[SimCamera],
    timelines: &[(String, Timeline)],
    model_dir: &Path,
) -> anyhow::Result<String> {
    let dir = json!(std::path::absolute(model_dir)?);
    // The demo's second model lies beside its first.
    let second = model_dir.with_file_name("street-confirm");
    let (second, confirm) = match second.join("card.yaml").exists() {
        true => (
            format!(", street-confirm: {}", json!(std::path::absolute(second)?)),
            ", confirm: { model: street-confirm, accept: [vendor], again_after: 10s }",
        ),
        false => (String::new(), ""),
    };
    let dwell = format!("at_least: {}s, per: ", DWELL.as_secs());
    let mut yaml = format!(
        "site: demo
models: {{ street-demo: {dir}{second} }}
situations:
  illegal_parking:
    zh: 机动车乱停放
    en: illegal parking
    rule: {{ dwell: {{ classes: [car], {dwell}thing }}, update_every: 20s, end_after: 5s }}
  street_vending:
    zh: 无照经营游商
    en: street vending
    rule: {{ dwell: {{ classes: [tricycle, goods], {dwell}group }}, update_every: 20s, end_after: 5s{confirm} }}
  road_obstructed:
    zh: 乱堆物堆料占道
    en: road obstructed
    rule: {{ dwell: {{ classes: [barrier, boxes], {dwell}group }}, update_every: 20s, end_after: 5s }}
classes: {{ community: {{ model: street-demo }} }}
cameras:
"
    );
    for camera in cameras {
        let (name, timeline) = &timelines[camera.clip];
        writeln!(
            yaml,
            "  - id: {}\n    class: community\n    url: {}\n    name: {name}\n    zones:",
            camera.id, camera.url
        )?;
        for zone in timeline.zones() {
            let corners: Vec<_> = zone.polygon.points().iter().map(|p| [p.x, p.y]).collect();
            let situations: Vec<_> = zone.situation.iter().map(|s| s.as_str()).collect();
            writeln!(
                yaml,
                "      - {}",
                json!({ "id": zone.id, "polygon": corners, "situations": situations })
            )?;
        }
    }
    Ok(yaml)
}

/// The user's own video or cameras: whatever stands still for a while is a situation.
fn own_fleet(args: &Args, server: &Server, card: &ModelCard, model_dir: &Path) -> anyhow::Result<Fleet> {
    let urls = match &args.video {
        Some(path) => {
            let clip = Arc::new(Clip::open(path)?);
            server.mount("video", Mount::new(clip))?;
            vec![server.url("video")]
        }
        None => args.rtsp.clone(),
    };
    fleet_text::anything_that_stands(card, model_dir, DWELL, &urls, args.user.as_deref())
}
