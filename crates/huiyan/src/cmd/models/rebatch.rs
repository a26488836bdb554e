//! `huiyan models rebatch`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use infer::Runtime;

use super::fetch;
use crate::UserError;

/// Rewrite a model that takes one picture at a time to take any number.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model, an .onnx file
    file: PathBuf,
    /// Where the rewritten one goes; never over another file
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: &Args, library: Option<&Path>) -> anyhow::Result<()> {
    let runtime = Runtime::load(library)?;
    let content = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    let made = infer::rebatch(&runtime, &content)
        .map_err(|error| UserError(format!("{}: {error}", args.file.display())))?;
    let file = std::fs::File::create_new(&args.out);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, &made));
    written.with_context(|| args.out.display().to_string())?;
    let (bytes, sha256) = fetch::hash(&args.out)?;
    println!(
        "{}: {bytes} bytes; three pictures at once give what each gives alone. In its card:\nsha256: {sha256}\nbatch: dynamic",
        args.out.display()
    );
    Ok(())
}
