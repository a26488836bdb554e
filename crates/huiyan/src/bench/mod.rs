//! `huiyan bench`: what a stage costs in processor time, beside the floor under it: the same work by the library
//! that does it, without us. The two take turns in one run, so that whatever else the machine does falls on both.
//!
//! Figures are per core because they divide by processor time, not by the clock. What serves the cameras runs in a
//! child process, so that only the client's time counts.

mod alternatives;
mod arrivals;
mod cameras;
mod client;
mod confirm;
mod connect;
mod cpu;
mod decode;
mod deliver;
mod drain;
mod gate;
mod hardware;
mod infer;
mod ingest;
mod material;
mod node;
mod peers;
mod plot;
mod report;
mod soak;
mod tiles;
mod under_load;

use std::path::PathBuf;

use report::Figure;

use crate::UserError;

/// Turns that a measurement and its floor take.
const ROUNDS: usize = 3;

/// Measure a stage, or all of them, beside the floor under it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// Print one JSON list of {name, value, unit, floor, ratio}
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// RTSP sessions: bits and sessions per core, memory per session; floor: a raw drain of the same sockets; beside
    /// them GStreamer's rtspsrc and ffmpeg
    Ingest(ingest::Args),
    /// One measurement of `ingest`, in the process that it starts for it
    #[command(hide = true)]
    Client(client::Args),
    /// How fast sessions stand, and are back after all were cut at once; floor of the peak: the cap per recorder
    Connect(connect::Args),
    /// Cameras that go wrong in every way, for long: memory, descriptors, and where every camera's time went
    Soak(soak::Args),
    /// Key pictures decoded per core; floor: libavcodec alone (the program ffmpeg)
    Decode(decode::Args),
    /// Pictures looked at per core, and how long they wait for a batch; floor: ONNX Runtime alone on the same model
    Infer(infer::Args),
    /// What a question to a second model costs (a rule's `confirm`); floor: ONNX Runtime alone on the same session
    Confirm(confirm::Args),
    /// What the gate spares on streets by day, in rain and at night, what a camera costs, and what is lost
    Gate(gate::Args),
    /// Which things tiles find in panoramas that the look at the whole picture misses
    Tiles(tiles::Args),
    /// The whole pipeline: looks per core end to end; floor: the sum of the stages' floors
    Node(node::Args),
    /// From the decision to the broker's PUBACK through the outbox, an outage included; peer: rumqttc alone
    Deliver(deliver::Args),
    /// All four, with their defaults
    All(AllArgs),
}

#[derive(Debug, clap::Args)]
struct AllArgs {
    /// Folder of the model's card [default: models/street-demo]
    #[arg(long)]
    model: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let machine = cpu::machine();
    let figures = match args.what {
        What::Ingest(args) => ingest::run(&args)?,
        What::Client(args) => return client::run(&args),
        What::Connect(args) => connect::run(&args)?,
        What::Soak(args) => soak::run(&args)?,
        What::Decode(args) => decode::run(&args)?,
        What::Infer(args) => infer::run(&args)?,
        What::Confirm(args) => confirm::run(&args)?,
        What::Gate(args) => gate::run(&args)?,
        What::Tiles(args) => tiles::run(&args)?,
        What::Node(args) => node::run(&args)?,
        What::Deliver(args) => deliver::run(&args)?,
        What::All(args) => all(args)?,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        print!("{}", report::table(&machine, &figures));
    }
    Ok(())
}

/// `ingest` first: it measures memory, which the others leave in use.
fn all(args: AllArgs) -> anyhow::Result<Vec<Figure>> {
    let mut figures = ingest::run(&ingest::Args::short())?;
    figures.extend(decode::run(&decode::Args::default())?);
    figures.extend(infer::run(&infer::Args { model: args.model.clone(), ..infer::Args::default() })?);
    figures.extend(node::run(&node::Args { model: args.model, ..node::Args::default() })?);
    Ok(figures)
}

/// A number of seconds that makes sense.
fn positive(seconds: f64, flag: &str) -> anyhow::Result<f64> {
    if (0.05..=600.0).contains(&seconds) {
        return Ok(seconds);
    }
    Err(UserError(format!("{flag} {seconds}: expected 0.05 to 600 seconds")).into())
}

/// Says on standard error what is being measured now.
fn step(text: &str) {
    eprintln!("bench: {text}");
}
