//! `cargo xtask fuzz`: feeds the parsers of `ingest` with bytes that a fuzzer makes up. A stable compiler is enough.

mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Mistake;

/// What `cargo fuzz build --sanitizer none` asks of the compiler: counters of the branches that were taken, and the
/// values that were compared. There is no unsafe code that a sanitizer would have to watch.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Longer inputs take longer and say no more.
const MAX_LEN: usize = 4_096;
/// Kept for the test that replays them: small ones, and not many.
const KEEP_LEN: u64 = 1_024;
const KEEP_FILES: usize = 40;

/// What `cargo xtask fuzz` was asked for.
#[derive(clap::Args)]
pub struct Args {
    /// Only this target; without it all of them, one after the other
    target: Option<String>,
    /// How long each of them runs
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Puts what was found into the corpus that is kept, and takes out what it makes superfluous
    #[arg(long)]
    keep: bool,
}

struct Fuzz {
    /// `crates/ingest/fuzz`.
    folder: PathBuf,
    /// `target/fuzz`.
    output: PathBuf,
    /// Recordings of real cameras, beside the repository; they need not be there.
    captures: PathBuf,
    host: String,
}

/// Builds the targets and runs them. Fails if one of them finds something.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let fuzz = Fuzz {
        folder: root.join("crates/ingest/fuzz"),
        output: root.join("target/fuzz"),
        captures: root.join("../shared/captures"),
        host: host()?,
    };
    let mut targets = fuzz.targets()?;
    if let Some(only) = &args.target {
        if !targets.contains(only) {
            let text = format!("there is no fuzz target {only:?}; there are {}", targets.join(", "));
            return Err(Mistake(text).into());
        }
        targets.retain(|target| target == only);
    }
    fuzz.build()?;
    let mut found = Vec::new();
    for target in targets {
        if !fuzz.fuzz(&target, args.minutes)? {
            found.push(target.clone());
        }
        if args.keep {
            fuzz.keep(&target)?;
        }
    }
    if !found.is_empty() {
        bail!("{} found something: see the files in {}", found.join(", "), fuzz.artifacts().display());
    }
    Ok(())
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what machine this is")
}

impl Fuzz {
    fn targets(&self) -> Result<Vec<String>> {
        let folder = self.folder.join("fuzz_targets");
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        let paths = entries.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path());
        let mut names: Vec<String> =
            paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    fn build(&self) -> Result<()> {
        // A target that is named keeps the flags away from build scripts.
        let built = Command::new("cargo")
            .args(["build", "--release", "--target", &self.host, "--target-dir"])
            .arg(&self.output)
            .arg("--manifest-path")
            .arg(self.folder.join("Cargo.toml"))
            .env("RUSTFLAGS", FLAGS)
            .status()
            .context("cannot start cargo")?;
        if !built.success() {
            bail!("the fuzz targets do not build");
        }
        Ok(())
    }

    /// Runs a target; `false`: it found something.
    fn fuzz(&self, target: &str, minutes: u64) -> Result<bool> {
        let (work, seeds) = (self.output.join("corpus").join(target), self.output.join("seeds").join(target));
        for folder in [&work, &seeds, &self.artifacts()] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        seeds::write(target, &self.captures, &seeds)?;
        println!("{target}: {minutes} minutes");
        let status = self
            .command(target)
            .args([&work, &self.kept(target), &seeds].into_iter().filter(|folder| folder.is_dir()))
            .arg(format!("-max_total_time={}", minutes * 60))
            .arg(format!("-max_len={MAX_LEN}"))
            .arg(format!("-artifact_prefix={}/{target}-", self.artifacts().display()))
            .args(["-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"])
            .status()
            .with_context(|| format!("cannot start {target}"))?;
        Ok(status.success())
    }

    /// Makes the kept corpus out of itself and of what was found: as few files as reach the same code.
    fn keep(&self, target: &str) -> Result<()> {
        let (kept, new) = (self.kept(target), self.output.join("merged").join(target));
        // Left by an earlier run, if it is there.
        let _ = fs::remove_dir_all(&new);
        fs::create_dir_all(&new)?;
        fs::create_dir_all(&kept)?;
        let merged = self
            .command(target)
            .arg("-set_cover_merge=1")
            .arg(format!("-max_len={KEEP_LEN}"))
            .args([&new, &kept, &self.output.join("corpus").join(target)])
            .status()?;
        if !merged.success() {
            bail!("{target}: the corpora cannot be merged");
        }
        let mut files = files(&new)?;
        files.sort_by_key(|file| (fs::metadata(file).map_or(0, |data| data.len()), file.clone()));
        files.truncate(KEEP_FILES);
        for old in self::files(&kept)? {
            fs::remove_file(old)?;
        }
        for file in &files {
            fs::copy(file, kept.join(file.file_name().unwrap_or_default()))?;
        }
        println!("{target}: {} inputs kept", files.len());
        Ok(())
    }

    fn command(&self, target: &str) -> Command {
        Command::new(self.output.join(&self.host).join("release").join(target))
    }

    fn kept(&self, target: &str) -> PathBuf {
        self.folder.join("corpus").join(target)
    }

    fn artifacts(&self) -> PathBuf {
        self.output.join("artifacts")
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    Ok(entries.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path()).collect())
}
