//! `huiyan run`: watch the cameras of a fleet.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleet::Fleet;
use flow::{CameraId, Minutes};
use publish::wire::CoverageMessage;

use super::{duration, interrupted_or_over, runtime};
use crate::health::Known;
use crate::pipeline::{self, Pipeline};
use crate::telemetry::metrics;
use crate::{UserError, descriptors, fleet_text};

/// How often the models' cards are looked at.
const CARDS_EVERY: Duration = Duration::from_secs(30);

/// Watch the cameras of a fleet. SIGHUP: new versions of the models take over.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet's YAML
    #[arg(long, default_value = "configs/huiyan.yaml")]
    config: PathBuf,
    /// Stop after this long, for example 60s
    #[arg(long = "for", value_parser = duration)]
    limit: Option<Duration>,
    /// Print each event as a JSON line on standard output, and at the end what became of every camera
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let fleet = Arc::new(Fleet::load(&args.config).map_err(|mistakes| UserError(mistakes.to_string()))?);
    if fleet.cameras.is_empty() {
        return Err(UserError(format!("{}: no cameras to watch", args.config.display())).into());
    }
    descriptors::raise(fleet.cameras.iter().map(|camera| &**camera))?;
    runtime()?.block_on(async {
        let json = args.json;
        let on_event = Box::new(move |told: crate::pipeline::Told<'_>| {
            if json {
                println!("{}", fleet_text::event_json(told.event));
            } else {
                tracing::info!("{}", fleet_text::event_line(&told));
            }
        });
        let pipeline = Pipeline::start(&fleet, pipeline::policy(&fleet.node), on_event)?;
        tracing::info!(cameras = fleet.cameras.len(), broker = %fleet.broker, "watching");
        let asked = match fleet.telemetry.metrics {
            Some(listen) => Some(metrics::serve(listen).await?),
            None => None,
        };
        tokio::select! {
            () = watch_models(pipeline.renewal(), interrupted_or_over(args.limit)) => {}
            () = answer(asked, &pipeline) => {}
        }
        let known = pipeline.health();
        let cameras = json.then(|| cameras(&fleet, &known, |camera| pipeline.looks_of(camera)));
        let mut coverage = Minutes::default();
        known.iter().for_each(|known| coverage.add(&known.minutes));
        let coverage = CoverageMessage::from(&coverage);
        let report = pipeline.stop().await;
        match cameras {
            Some(cameras) => println!(
                "{}",
                serde_json::json!({ "report": report, "coverage": coverage, "cameras": cameras })
            ),
            None => tracing::info!(
                "stopped: {}; camera-seconds: {}",
                serde_json::to_string(&report)?,
                serde_json::to_string(&coverage)?
            ),
        }
        Ok(())
    })
}

/// Gives the numbers to whoever asks.
async fn answer(asked: Option<tokio::sync::mpsc::Receiver<metrics::Asked>>, pipeline: &Pipeline) {
    if let Some(mut asked) = asked {
        while let Some(reply) = asked.recv().await {
            // Who has gone meanwhile does not want them any more.
            let _ = reply.send(metrics::text(pipeline));
        }
    }
    std::future::pending::<()>().await;
}

/// Lets new versions of the models take over, at SIGHUP and where a card has changed, until `over`.
async fn watch_models(renew: impl Fn(bool) + Send + Sync + 'static, over: impl Future<Output = ()>) {
    use tokio::signal::unix::{SignalKind, signal};
    let renew = Arc::new(renew);
    let mut asked = signal(SignalKind::hangup()).ok();
    if asked.is_none() {
        tracing::warn!("SIGHUP cannot be handled; new models are noticed within {CARDS_EVERY:?}");
    }
    let mut tick = tokio::time::interval(CARDS_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    tokio::pin!(over);
    loop {
        let hangup = async {
            match &mut asked {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        };
        let by_hand = tokio::select! {
            () = &mut over => return,
            () = hangup => true,
            _ = tick.tick() => false,
        };
        let renew = renew.clone();
        // One at a time: the next signal waits, and the end of the program does not.
        let renewed = tokio::task::spawn_blocking(move || renew(by_hand));
        tokio::select! {
            () = &mut over => return,
            done = renewed => if let Err(error) = done {
                tracing::error!("looking for new models: {error}");
            },
        }
    }
}

/// Every camera with its looks, its health and where its time went.
fn cameras(fleet: &Fleet, known: &[Known], looks: impl Fn(&CameraId) -> u64) -> Vec<serde_json::Value> {
    let known: HashMap<_, _> = known.iter().map(|known| (&known.health.camera, known)).collect();
    let cameras = fleet.cameras.iter().map(|camera| {
        let known = known.get(&camera.id);
        serde_json::json!({
            "id": camera.id,
            "looks": looks(&camera.id),
            "state": known.map(|k| k.health.state.name()),
            "reason": known.map(|k| &k.health.reason),
            "coverage": known.map(|k| CoverageMessage::from(&k.minutes)),
        })
    });
    cameras.collect()
}
