//! `cargo xtask`: set-up, demo and test on a machine that has Rust and nothing else.
//!
//! Exit codes: 0 done, 1 something failed (or `setup --check` found something missing), 2 the command line or the
//! environment asks for what cannot be. `demo` and `test` end with the exit code of what they start.

// The program talks to a person at a terminal; the ban is meant for libraries.
#![allow(clippy::disallowed_macros)]

mod apt;
mod contract;
mod fuzz;
mod requirement;
mod runtime;
mod setup;
mod step;
mod system;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::system::{Local, System};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Set-up, demo and test on a bare machine.")]
struct Cli {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Finds what is missing on this machine and installs it (apt; ONNX Runtime under target/).
    Setup {
        /// Only list what is missing; touches nothing, exit code 1 when something is.
        #[arg(long)]
        check: bool,
    },
    /// Sets up, then runs `huiyan demo` with these arguments.
    #[command(disable_help_flag = true)]
    Demo {
        /// Handed to `huiyan demo` as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Sets up, then runs every test of the workspace.
    #[command(disable_help_flag = true)]
    Test {
        /// Handed to `cargo nextest run`, or to `cargo test` where nextest is not installed.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Kills worker, desk, broker and wire while events are made, and says whether all of them arrived, once each.
    Crash {
        /// Blows, two in a second. A run of all tests has 200
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        rounds: u64,
        /// The same seed strikes in the same order
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Validates the wire contract (configs/contract) with AsyncAPI's parser and ajv, which it installs under target/.
    Contract,
    /// Feeds the parsers of cameras' streams, messages and evidence with bytes that a fuzzer makes up; finds are under target/fuzz/artifacts.
    Fuzz(fuzz::Args),
}

/// What was asked for cannot be done as asked: exit code 2.
#[derive(Debug)]
struct Mistake(String);

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mistake {}

fn main() -> ExitCode {
    match run(Cli::parse().job) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Mistake>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn run(job: Job) -> Result<ExitCode> {
    let system = Local::look(&workspace_root())?;
    match job {
        Job::Contract => contract::run(&system).map(|()| ExitCode::SUCCESS),
        Job::Fuzz(args) => fuzz::run(&workspace_root(), &args).map(|()| ExitCode::SUCCESS),
        Job::Crash { rounds, seed } => {
            setup::install(&system)?;
            crash(rounds, seed)
        }
        Job::Setup { check: true } => Ok(setup::check(&system)),
        Job::Setup { check: false } => setup::install(&system).map(|()| ExitCode::SUCCESS),
        Job::Demo { args } => {
            setup::install(&system)?;
            become_cargo(demo_arguments(args))
        }
        Job::Test { args } => {
            setup::install(&system)?;
            become_cargo(test_arguments(args, system.command("cargo-nextest")))
        }
    }
}

fn workspace_root() -> PathBuf {
    // Cargo sets the variable for what it runs; the compiled-in value serves a binary that was started by hand.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.ancestors().nth(2).map_or(manifest.clone(), PathBuf::from)
}

fn demo_arguments(args: Vec<OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = ["run", "--package", "huiyan", "--", "demo"].map(OsString::from).into();
    all.extend(args);
    all
}

/// Doc tests are left out: they would link one program per example, and there are none (a test in `tests/` holds this).
fn test_arguments(args: Vec<OsString>, nextest: bool) -> Vec<OsString> {
    let words: &[&str] = if nextest { &["nextest", "run"] } else { &["test", "--tests"] };
    let mut all: Vec<OsString> = words.iter().map(OsString::from).collect();
    let names_package = |arg: &OsString| {
        let arg = arg.to_string_lossy();
        arg.starts_with("-p") || arg.starts_with("--package")
    };
    if !args.iter().take_while(|arg| *arg != "--").any(names_package) {
        all.push("--workspace".into());
    }
    all.extend(args);
    all
}

/// By the tests' own runner, as nextest would end what runs for minutes.
fn crash(rounds: u64, seed: Option<u64>) -> Result<ExitCode> {
    let name = "crash::nothing_is_lost_or_doubled_whatever_dies";
    let words = ["test", "--package", "huiyan", "--test", "main", "--", "--exact", name, "--nocapture"];
    let mut settings = vec![("HUIYAN_CRASH_ROUNDS", rounds.to_string())];
    settings.extend(seed.map(|seed| ("HUIYAN_CRASH_SEED", seed.to_string())));
    become_cargo_with(words.map(OsString::from).into(), settings)
}

/// Replaces this process, so that signals and the exit code need no relaying. The working directory stays the
/// caller's: a relative `--video street.mp4` means what it says.
fn become_cargo(args: Vec<OsString>) -> Result<ExitCode> {
    become_cargo_with(args, Vec::new())
}

fn become_cargo_with(args: Vec<OsString>, settings: Vec<(&str, String)>) -> Result<ExitCode> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let by_hand = args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
    println!("cargo {by_hand}");
    let error = Command::new(cargo).args(args).envs(settings).exec();
    Err(error).with_context(|| format!("cannot start cargo; by hand: cargo {by_hand}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    fn parse(args: &[&str]) -> Job {
        Cli::try_parse_from(args).unwrap().job
    }

    #[test]
    fn the_demo_receives_every_argument_untouched() {
        let Job::Demo { args } = parse(&["xtask", "demo", "--for", "60s", "--help", "--", "x"]) else {
            panic!("demo")
        };
        assert_eq!(
            demo_arguments(args),
            words(&["run", "--package", "huiyan", "--", "demo", "--for", "60s", "--help", "--", "x"])
        );
    }

    #[test]
    fn tests_run_on_the_whole_workspace_unless_a_package_is_named() {
        assert_eq!(test_arguments(vec![], true), words(&["nextest", "run", "--workspace"]));
        assert_eq!(test_arguments(vec![], false), words(&["test", "--tests", "--workspace"]));
        assert_eq!(test_arguments(words(&["-p", "flow"]), true), words(&["nextest", "run", "-p", "flow"]));
        let after_dashes = words(&["--", "-p"]);
        assert_eq!(
            test_arguments(after_dashes, false),
            words(&["test", "--tests", "--workspace", "--", "-p"])
        );
    }

    #[test]
    fn an_unknown_job_is_the_users_mistake() {
        let error = Cli::try_parse_from(["xtask", "instal"]).err().unwrap();
        assert_eq!(error.exit_code(), 2);
    }
}
