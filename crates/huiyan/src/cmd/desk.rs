//! `huiyan desk`: receive events and open cases.

use std::path::PathBuf;

use desk::{Desk, Options};
use fleet::Fleet;

use super::{interrupted, runtime};
use crate::UserError;

/// Receive events and open cases, with one page to look at them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet's YAML
    #[arg(long, default_value = "configs/huiyan.yaml")]
    config: PathBuf,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let fleet = Fleet::load(&args.config).map_err(|mistakes| UserError(mistakes.to_string()))?;
    runtime()?.block_on(async {
        let desk = Desk::start(Options::from_fleet(&fleet)).await?;
        tracing::info!("cases at http://{}/", desk.addr());
        interrupted().await;
        desk.stop().await;
        Ok(())
    })
}
