//! `cargo xtask fuzz`: feeds the parsers of what comes from outside with bytes that a fuzzer makes up. A stable compiler is
//! enough.

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
/// The crates that have targets, in `crates/{crate}/fuzz`.
const CRATES: [&str; 3] = ["ingest", "publish", "desk"];
/// Longer inputs take longer and say no more.
const MAX_LEN: usize = 4_096;
/// Of an input that is kept for the test that replays them.
const KEEP_LEN: usize = 1_024;
/// And so many of them; the shortest.
const KEEP_FILES: usize = 60;

/// What `cargo xtask fuzz` was asked for.
#[derive(clap::Args)]
pub struct Args {
    /// Only this target; without it all of them, one after the other
    target: Option<String>,
    /// How long each of them runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Renews the corpus that is kept with what was found; recordings are not used then, so that none is kept
    #[arg(long)]
    keep: bool,
}

/// The targets of one crate.
struct Fuzz {
    /// `crates/{crate}/fuzz`.
    folder: PathBuf,
    /// `target/fuzz`.
    output: PathBuf,
    /// Recordings of real cameras, beside the repository; they need not be there.
    captures: PathBuf,
    host: String,
}

/// Builds the targets and runs them. Fails if one of them finds something.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let host = host()?;
    let mut all = Vec::new();
    for name in CRATES {
        let fuzz = Fuzz {
            folder: root.join("crates").join(name).join("fuzz"),
            output: root.join("target/fuzz"),
            captures: root.join("../shared/captures"),
            host: host.clone(),
        };
        let targets = fuzz.targets()?;
        all.push((fuzz, targets));
    }
    if let Some(only) = &args.target {
        let names: Vec<&str> = all.iter().flat_map(|(_, targets)| targets).map(String::as_str).collect();
        if !names.contains(&only.as_str()) {
            let text = format!("there is no fuzz target {only:?}; there are {}", names.join(", "));
            return Err(Mistake(text).into());
        }
        all.iter_mut().for_each(|(_, targets)| targets.retain(|target| target == only));
    }
    all.retain(|(_, targets)| !targets.is_empty());
    for (fuzz, _) in &all {
        fuzz.build()?;
    }
    let mut found = Vec::new();
    for (fuzz, target) in all.iter().flat_map(|(fuzz, targets)| targets.iter().map(move |t| (fuzz, t))) {
        if !fuzz.fuzz(target, args)? {
            found.push(format!("{target} (see the files in {})", fuzz.artifacts().display()));
        }
        if args.keep {
            fuzz.keep(target)?;
        }
    }
    if !found.is_empty() {
        bail!("something was found by {}", found.join(", "));
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
    fn fuzz(&self, target: &str, args: &Args) -> Result<bool> {
        let minutes = args.minutes;
        let (work, seeds) = (self.work(target, args.keep), self.output.join("seeds").join(target));
        for folder in [&work, &seeds, &self.artifacts()] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        if !args.keep {
            seeds::write(target, &self.captures, &seeds)?;
        }
        println!("{target}: {minutes} minutes");
        let status = self
            .command(target)
            .args([&work, &self.kept(target)].into_iter().filter(|folder| folder.is_dir()))
            .args((!args.keep).then_some(&seeds))
            .arg(format!("-max_total_time={}", minutes * 60))
            .arg(format!("-max_len={MAX_LEN}"))
            .arg(format!("-artifact_prefix={}/{target}-", self.artifacts().display()))
            .args(["-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"])
            .status()
            .with_context(|| format!("cannot start {target}"))?;
        Ok(status.success())
    }

    /// Adds to the kept inputs that have names of their own as few others as reach what has ever been reached.
    fn keep(&self, target: &str) -> Result<()> {
        let (kept, before) = (self.kept(target), self.output.join("kept").join(target));
        // Left by an earlier run, if it is there.
        let _ = fs::remove_dir_all(&before);
        fs::create_dir_all(&before)?;
        fs::create_dir_all(&kept)?;
        for file in files(&kept)?.into_iter().filter(|file| is_made_up(file)) {
            fs::rename(&file, before.join(file.file_name().unwrap_or_default()))?;
        }
        let merged = self
            .command(target)
            .args(["-set_cover_merge=1", "-use_counters=0", "-verbosity=0"])
            .arg(format!("-max_len={KEEP_LEN}"))
            .args([&kept, &before, &self.work(target, true)])
            .status()?;
        if !merged.success() {
            bail!("{target}: the corpora cannot be merged; what was kept is in {}", before.display());
        }
        let mut all = files(&kept)?;
        all.sort_by_key(|file| {
            (is_made_up(file), fs::metadata(file).map_or(0, |data| data.len()), file.clone())
        });
        for superfluous in all.iter().skip(KEEP_FILES) {
            fs::remove_file(superfluous)?;
        }
        println!("{target}: {} inputs kept", all.len().min(KEEP_FILES));
        Ok(())
    }

    fn command(&self, target: &str) -> Command {
        Command::new(self.output.join(&self.host).join("release").join(target))
    }

    /// Where inputs are collected: those that come from recordings apart from those that do not.
    fn work(&self, target: &str, own: bool) -> PathBuf {
        self.output.join(if own { "own" } else { "corpus" }).join(target)
    }

    fn kept(&self, target: &str) -> PathBuf {
        self.folder.join("corpus").join(target)
    }

    fn artifacts(&self) -> PathBuf {
        self.output.join("artifacts")
    }
}

/// The fuzzer names its inputs by their hash.
fn is_made_up(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    Ok(entries.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_with_names_are_told_from_those_with_hashes() {
        assert!(is_made_up(Path::new("corpus/rtp/0a1b2c3d4e5f60718293a4b5c6d7e8f901234567")));
        assert!(!is_made_up(Path::new("corpus/rtp/own-jump")));
        assert!(!is_made_up(Path::new("corpus/interleaved/found-stale-scan")));
    }
}
