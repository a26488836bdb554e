//! `cargo xtask contract`: the wire contract against validators and clients that are not ours.
//!
//! AsyncAPI's own parser and ajv come from npm, paho-mqtt from PyPI, both through their ordinary clients, pinned by the
//! hashes in `crates/xtask/contract/` and installed under `target/contract`; Node, a JDK and a Java client from Debian.
//! None of it is part of the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::apt;
use crate::step::Step;
use crate::system::{System, python};

/// Where the validators go, relative to the workspace.
const FOLDER: &str = "target/contract";
/// What they are, relative to the workspace.
const SOURCE: &str = "crates/xtask/contract";

/// How a tool is seen.
#[derive(Clone, Copy, Debug)]
enum Probe {
    Command(&'static str),
    File(&'static str),
}

/// What has to be there, and the Debian package that brings it.
const TOOLS: &[(Probe, &str)] = &[
    (Probe::Command("node"), "nodejs"),
    (Probe::Command("npm"), "npm"),
    (Probe::Command("mosquitto_sub"), "mosquitto-clients"),
    (Probe::Command("javac"), "default-jdk-headless"),
    (Probe::File("/usr/share/java/mqtt-client.jar"), "libmqtt-client-java"),
];

/// Installs what is missing, then validates the document, the schemas and the golden files.
///
/// # Errors
/// A tool or package that cannot be installed, with the command and its last lines; or the mistakes in the contract.
pub fn run(system: &dyn System) -> Result<()> {
    let file = |path: &str| Path::new(path).is_file();
    let lacks = lacking(|name| system.command(name), file);
    if !lacks.is_empty() {
        println!("contract: missing: {}", lacks.join(", "));
        if !system.command("apt-get") {
            bail!("no apt-get here; install by hand what these Debian packages hold: {}", lacks.join(", "));
        }
        apt::plan(&lacks, system)?.iter().try_for_each(Step::run)?;
    }
    let root = system.workspace();
    let (source, folder) = (root.join(SOURCE), root.join(FOLDER));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    validators(&source, &folder)?;
    paho(&source, &folder)?;
    let script = copy(&source, &folder, "validate.mjs")?;
    let (contract, golden) = (root.join("configs/contract"), root.join("crates/publish/testdata"));
    // Its one line of result, or its list of mistakes, is what was asked for: no progress line over it.
    let status =
        Command::new("node").args([script, contract, golden]).status().context("cannot start node")?;
    ensure!(status.success(), "the contract is not valid; by hand: cargo xtask contract");
    Ok(())
}

fn lacking(command: impl Fn(&str) -> bool, file: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let absent = |probe: &Probe| match probe {
        Probe::Command(name) => !command(name),
        Probe::File(path) => !file(path),
    };
    TOOLS.iter().filter(|(probe, _)| absent(probe)).map(|(_, package)| *package).collect()
}

/// `npm ci`: exactly the lock file, each package checked against its hash there; no package runs a script of its own.
fn validators(source: &Path, folder: &Path) -> Result<()> {
    once(folder, "npm.sha256", &source.join("package-lock.json"), || {
        copy(source, folder, "package.json")?;
        copy(source, folder, "package-lock.json")?;
        let words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", &text(folder)]
            .map(str::to_owned);
        Step::new("contract: validators from npm", words.iter().map(String::as_str)).run()
    })
}

fn paho(source: &Path, folder: &Path) -> Result<()> {
    let list = source.join("requirements.txt");
    once(folder, "pip.sha256", &list, || {
        let python =
            python().context("no python3 with pip, which fetches paho-mqtt (Debian: python3-pip)")?;
        let (list, target) = (text(&list), text(&folder.join("python")));
        let words = [
            python,
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--upgrade",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
            "--target",
            &target,
            "--requirement",
            &list,
        ];
        Step::new("contract: paho-mqtt from PyPI", words).run()
    })
}

/// Does `install` unless it was done with the very same list; the mark goes last.
fn once(folder: &Path, mark: &str, list: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let bytes = fs::read(list).with_context(|| format!("cannot read {}", list.display()))?;
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let mark = folder.join(mark);
    if fs::read_to_string(&mark).is_ok_and(|there| there == hash) {
        return Ok(());
    }
    install()?;
    fs::write(&mark, hash).with_context(|| format!("cannot write {}", mark.display()))
}

fn copy(source: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    let to = folder.join(name);
    fs::copy(source.join(name), &to)
        .with_context(|| format!("cannot copy {name} to {}", folder.display()))?;
    Ok(to)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_names_its_package() {
        assert_eq!(lacking(|_| true, |_| true), Vec::<&str>::new());
        assert_eq!(lacking(|name| name != "npm", |_| true), ["npm"]);
        assert_eq!(lacking(|_| true, |_| false), ["libmqtt-client-java"]);
        assert_eq!(lacking(|_| false, |_| false).len(), TOOLS.len());
    }

    #[test]
    fn an_installation_is_done_again_only_for_another_list_or_after_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        fs::write(&list, "one").unwrap();
        let done = std::cell::Cell::new(0);
        let count = || {
            done.set(done.get() + 1);
            Ok(())
        };
        let attempt = |install: &dyn Fn() -> Result<()>| once(folder.path(), "mark", &list, install);
        assert!(attempt(&|| bail!("no network")).is_err());
        attempt(&count).unwrap();
        attempt(&count).unwrap();
        assert_eq!(done.get(), 1);
        fs::write(&list, "two").unwrap();
        attempt(&count).unwrap();
        assert_eq!(done.get(), 2);
    }

    #[test]
    fn every_validator_is_pinned_by_hash_and_no_registry_is_named() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("contract");
        let lock: serde_json::Value =
            serde_json::from_slice(&fs::read(source.join("package-lock.json")).unwrap()).unwrap();
        let packages = lock["packages"].as_object().unwrap().iter().filter(|(path, _)| !path.is_empty());
        let mut count = 0;
        for (path, package) in packages {
            assert!(package["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-")), "{path}");
            assert!(package.get("resolved").is_none(), "{path} names its registry");
            count += 1;
        }
        assert!(count > 100, "{count}");
        let list = fs::read_to_string(source.join("requirements.txt")).unwrap();
        assert!(list.contains("==") && list.contains("--hash=sha256:"), "{list}");
    }
}
