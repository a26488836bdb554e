//! The program: commands, the wiring, supervision.
//!
//! [`pipeline`] is the only place where two stages meet. `main` reads top to bottom: what was asked, then the
//! command, then the exit code: 0 done, 1 failed, 2 the user's mistake.

#![allow(clippy::disallowed_macros, reason = "the program is what writes to the terminal")]
#![allow(rustdoc::broken_intra_doc_links, reason = "help texts write host[:port] as users do")]

mod annotate;
mod bench;
mod broker;
mod cmd;
mod confirm;
mod descriptors;
mod fleet_text;
mod health;
mod live;
mod picture_health;
mod pipeline;
mod reference;
mod scene_stage;
mod table;
mod telemetry;
mod versions;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Watches a county's cameras and reports situations over MQTT.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A simulated street, a broker, the pipeline and the desk in one process; nothing to configure
    Demo(cmd::demo::Args),
    /// Watch the cameras of a fleet
    Run(cmd::run::Args),
    /// Receive events and open cases, with one page to look at them
    Desk(cmd::desk::Args),
    /// Check a fleet: every mistake at once, each with its place and what would be right
    Check(cmd::check::Args),
    /// Say which cameras a change of the configuration touches
    Diff(cmd::diff::Args),
    /// Say what cameras send, and what to write into the fleet's YAML for them
    Probe(cmd::probe::Args),
    /// Say how cameras and workers are, and what is open, from what the broker retains
    Status(cmd::status::Args),
    /// Print the JSON Schema of a fleet's YAML, for editors; or write the wire contract
    Schema(cmd::check::SchemaArgs),
    /// Run the pipeline on a video file as fast as it goes: events as JSON lines, an annotated video
    Replay(cmd::replay::Args),
    /// Compare events with what is true: of files, of clips, or of rendered streets played through the pipeline
    Eval(cmd::eval::Args),
    /// Serve simulated cameras over RTSP, or render pictures for training
    Sim(cmd::sim::Args),
    /// Measure a stage, or all of them, beside the floor under it
    Bench(bench::Args),
    /// Verify the signed chain of evidence pictures, or open a sealed original
    Evidence(cmd::evidence::Args),
    /// List, check, describe and fetch models
    Models(cmd::models::Args),
}

/// A mistake of the user's: exit code 2 instead of 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UserError(String);

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Log lines go to standard error, results to standard output. The demo has its table, which a line would tear,
    // and a bench opens thousands of sessions: only warnings from them.
    let own = if matches!(
        cli.command,
        Command::Demo(_) | Command::Bench(_) | Command::Probe(_) | Command::Status(_)
    ) {
        "warn"
    } else {
        "info"
    };
    // What these libraries report, the stages report better: with the camera's or the model's name.
    let others = "rumqttd=off,rumqttc=error,ort=error,retina=error,tiny_skia=error";
    let filter = tracing_subscriber::EnvFilter::try_from_env("HUIYAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("{own},{others}")));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();

    let result = match cli.command {
        Command::Demo(args) => cmd::demo::run(args),
        Command::Run(args) => cmd::run::run(args),
        Command::Desk(args) => cmd::desk::run(args),
        Command::Check(args) => cmd::check::run(args),
        Command::Diff(args) => cmd::diff::run(args),
        Command::Probe(args) => cmd::probe::run(args),
        Command::Status(args) => cmd::status::run(args),
        Command::Schema(args) => cmd::check::schema(&args),
        Command::Replay(args) => cmd::replay::run(args),
        Command::Eval(args) => cmd::eval::run(args),
        Command::Sim(args) => cmd::sim::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Evidence(args) => cmd::evidence::run(args),
        Command::Models(args) => cmd::models::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(mistake) = error.downcast_ref::<UserError>() {
                // Each line begins with file:line:column, as editors and scripts expect it.
                eprintln!("{mistake}");
                return ExitCode::from(2);
            }
            eprintln!("huiyan: {error:#}");
            ExitCode::FAILURE
        }
    }
}
