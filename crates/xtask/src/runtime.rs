//! ONNX Runtime's shared library, taken out of the Python wheel `onnxruntime`.
//!
//! The wheel is the one form in which the runtime's makers publish it on a package registry. Its version and its
//! SHA-256 are pinned here and checked by us, so that neither a registry nor a mirror decides what is loaded. The
//! wheel for CPython 3.11 is asked for whatever Python is installed: the library inside does not depend on Python, and
//! one file means one hash.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::Mistake;
use crate::step::Step;
use crate::system::python;

const VERSION: &str = "1.31.1";

/// As it is called in lists and messages.
pub const NAME: &str = "ONNX Runtime 1.31.1";
/// Where it goes, relative to the workspace; `.cargo/config.toml` says the same to the program.
pub const FOLDER: &str = "target/onnxruntime";
/// The environment variable that names another library than ours.
pub const VARIABLE: &str = "HUIYAN_ONNXRUNTIME";

const LIBRARY: &str = "libonnxruntime.so";
/// Written last: what it says is there completely.
const MARK: &str = "wheel.sha256";

/// The wheel for one kind of CPU.
#[derive(Debug)]
struct Wheel {
    architecture: &'static str,
    platform: &'static str,
    sha256: &'static str,
}

const WHEELS: &[Wheel] = &[
    Wheel {
        architecture: "x86_64",
        platform: "manylinux_2_28_x86_64",
        sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
    },
    Wheel {
        architecture: "aarch64",
        platform: "manylinux_2_28_aarch64",
        sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
    },
];

/// What is on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The pinned wheel, unpacked.
    Pinned,
    /// A library of the user's own choice.
    Users,
    Absent,
}

/// The library that the user chose instead of ours.
///
/// # Errors
/// A [`Mistake`] where the file is not there: falling back in silence would run another library than the one asked for.
pub fn users(workspace: &Path, value: Option<OsString>) -> Result<Option<PathBuf>> {
    let ours = workspace.join(FOLDER).join(LIBRARY);
    match value.filter(|value| !value.is_empty()).map(PathBuf::from) {
        None => Ok(None),
        // Cargo itself sets the variable to our path.
        Some(path) if path == ours => Ok(None),
        Some(path) if path.is_file() => Ok(Some(path)),
        Some(path) => Err(Mistake(format!(
            "{VARIABLE} names {}, which is no file; correct it, or unset it to use {FOLDER}/{LIBRARY}",
            path.display()
        ))
        .into()),
    }
}

/// Whether the pinned wheel is unpacked in this workspace. Another version, or half of one, counts as absent.
pub fn installed(workspace: &Path) -> Installed {
    let folder = workspace.join(FOLDER);
    let mark = fs::read_to_string(folder.join(MARK)).unwrap_or_default();
    let pinned = wheel(std::env::consts::ARCH).is_ok_and(|wheel| mark.trim() == wheel.sha256);
    if pinned && folder.join(LIBRARY).is_file() { Installed::Pinned } else { Installed::Absent }
}

fn wheel(architecture: &str) -> Result<&'static Wheel> {
    WHEELS.iter().find(|wheel| wheel.architecture == architecture).with_context(|| {
        format!(
            "ONNX Runtime {VERSION} has no wheel for {architecture} (there are x86_64 and aarch64); build it from its \
             source and name the library in {VARIABLE}"
        )
    })
}

/// Downloads the wheel, checks it, and puts the library and its licence where `cargo run` finds them.
///
/// # Errors
/// No wheel for this CPU, no Python with pip, download failed, or a hash that differs from the pinned one.
pub fn install(workspace: &Path) -> Result<()> {
    let wheel = wheel(std::env::consts::ARCH)?;
    let python = python().context("no python3 with pip, which fetches the wheel (Debian: python3-pip)")?;
    let scratch = Scratch::new(workspace)?;
    download(python, wheel, &scratch.0)?;
    let file = only_wheel(&scratch.0)?;
    verify(&file, wheel.sha256)?;
    println!("{NAME}: SHA-256 is the pinned one ({}…)", &wheel.sha256[..16]);
    let unpacked = scratch.0.join("unpacked");
    let (from, to) = (file.to_string_lossy(), unpacked.to_string_lossy());
    Step::new(format!("{NAME}: unpack"), [python, "-m", "zipfile", "-e", &from, &to]).run()?;
    place(&unpacked, &workspace.join(FOLDER), wheel.sha256)
}

fn download(python: &str, wheel: &Wheel, into: &Path) -> Result<()> {
    let package = format!("onnxruntime=={VERSION}");
    let into = into.to_string_lossy();
    let mut words = vec![python, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"];
    words.extend([
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        "3.11",
        "--abi",
        "cp311",
    ]);
    words.extend(["--platform", wheel.platform, "--dest", &into, &package]);
    Step::new(format!("{NAME}: download"), words).run()
}

fn only_wheel(folder: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            found.push(path);
        }
    }
    ensure!(
        found.len() == 1,
        "pip said that it succeeded and left {} wheels where one was expected",
        found.len()
    );
    Ok(found.remove(0))
}

/// Compares the file with the pinned hash; a file that differs is removed, so that nobody uses it later.
fn verify(file: &Path, expected: &str) -> Result<()> {
    let got = sha256(file).with_context(|| format!("cannot read {}", file.display()))?;
    if got == expected {
        return Ok(());
    }
    let bytes = fs::metadata(file).map_or(0, |about| about.len());
    fs::remove_file(file)
        .with_context(|| format!("{} is not what was pinned, and cannot be removed", file.display()))?;
    bail!(
        "{} is not the file that was pinned, and was removed\n  expected SHA-256 {expected}\n  got              {got} \
         ({bytes} bytes)\na broken download: try again; the same again: the package index serves something else than \
         the published wheel",
        file.file_name().unwrap_or_default().to_string_lossy()
    )
}

fn sha256(file: &Path) -> Result<String> {
    let mut file = fs::File::open(file)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            length => hash.update(&chunk[..length]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Moves what is needed into `folder`, file by file: a rename is atomic, so a program that starts at this moment finds
/// the old library or the new one, never a half. The mark goes last.
fn place(unpacked: &Path, folder: &Path, sha256: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // The old mark must not vouch for a mixture, should this be interrupted.
    match fs::remove_file(folder.join(MARK)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let library = format!("capi/{LIBRARY}.{VERSION}");
    for (from, to) in [
        (library.as_str(), LIBRARY),
        ("LICENSE", "LICENSE"),
        ("ThirdPartyNotices.txt", "ThirdPartyNotices.txt"),
    ] {
        let from = unpacked.join("onnxruntime").join(from);
        fs::rename(&from, folder.join(to)).with_context(|| {
            format!("cannot move {} from the wheel to {}", from.display(), folder.display())
        })?;
    }
    let mark = unpacked.join(MARK);
    fs::write(&mark, format!("{sha256}\n"))?;
    fs::rename(&mark, folder.join(MARK))?;
    Ok(())
}

/// A folder on the same file system as the target, gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(workspace: &Path) -> Result<Scratch> {
        let path = workspace.join(format!("{FOLDER}.partial-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} stays behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    /// What `zipfile` leaves of a wheel, as far as we take from it.
    fn unpacked(folder: &Path) -> PathBuf {
        let root = folder.join("unpacked");
        fs::create_dir_all(root.join("onnxruntime/capi")).unwrap();
        fs::write(root.join(format!("onnxruntime/capi/{LIBRARY}.{VERSION}")), "new library").unwrap();
        fs::write(root.join("onnxruntime/LICENSE"), "licence").unwrap();
        fs::write(root.join("onnxruntime/ThirdPartyNotices.txt"), "notices").unwrap();
        root
    }

    #[test]
    fn the_right_file_passes_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.whl");
        fs::write(&file, "hello").unwrap();
        verify(&file, HELLO).unwrap();
        assert!(file.exists());
    }

    #[test]
    fn a_truncated_file_is_refused_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.whl");
        fs::write(&file, "hell").unwrap();
        let error = verify(&file, HELLO).unwrap_err().to_string();
        assert!(error.contains("a.whl") && error.contains(HELLO) && error.contains("4 bytes"), "{error}");
        assert!(!file.exists());
    }

    #[test]
    fn only_a_complete_copy_of_the_pinned_wheel_counts() {
        let workspace = tempfile::tempdir().unwrap();
        let folder = workspace.path().join(FOLDER);
        let pinned = wheel(std::env::consts::ARCH).unwrap().sha256;
        assert_eq!(installed(workspace.path()), Installed::Absent);
        place(&unpacked(workspace.path()), &folder, "the hash of another version").unwrap();
        assert_eq!(installed(workspace.path()), Installed::Absent);
        place(&unpacked(workspace.path()), &folder, pinned).unwrap();
        assert_eq!(installed(workspace.path()), Installed::Pinned);
        assert_eq!(fs::read_to_string(folder.join(LIBRARY)).unwrap(), "new library");
        fs::remove_file(folder.join(LIBRARY)).unwrap();
        assert_eq!(installed(workspace.path()), Installed::Absent);
    }

    #[test]
    fn an_interrupted_replacement_is_not_taken_for_complete() {
        let workspace = tempfile::tempdir().unwrap();
        let folder = workspace.path().join(FOLDER);
        let pinned = wheel(std::env::consts::ARCH).unwrap().sha256;
        place(&unpacked(workspace.path()), &folder, pinned).unwrap();
        let half = unpacked(workspace.path());
        fs::remove_file(half.join("onnxruntime/LICENSE")).unwrap();
        let error = format!("{:#}", place(&half, &folder, pinned).unwrap_err());
        assert!(error.contains("LICENSE"), "{error}");
        assert_eq!(installed(workspace.path()), Installed::Absent);
    }

    #[test]
    fn the_users_own_library_is_used_and_a_wrong_name_is_his_mistake() {
        let workspace = tempfile::tempdir().unwrap();
        let root = workspace.path();
        let ours = root.join(FOLDER).join(LIBRARY);
        assert_eq!(users(root, None).unwrap(), None);
        assert_eq!(users(root, Some(ours.into())).unwrap(), None);
        let own = root.join("own.so");
        let error = users(root, Some(own.clone().into())).unwrap_err();
        assert!(error.is::<Mistake>() && error.to_string().contains("own.so"), "{error}");
        fs::write(&own, "").unwrap();
        assert_eq!(users(root, Some(own.clone().into())).unwrap(), Some(own));
    }

    #[test]
    fn a_cpu_without_a_wheel_is_told_the_way_out() {
        let error = wheel("riscv64").unwrap_err().to_string();
        assert!(error.contains("riscv64") && error.contains(VARIABLE), "{error}");
    }

    #[test]
    fn a_scratch_folder_leaves_nothing() {
        let workspace = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(workspace.path()).unwrap();
        fs::write(scratch.0.join("x.whl"), "x").unwrap();
        assert_eq!(only_wheel(&scratch.0).unwrap(), scratch.0.join("x.whl"));
        drop(scratch);
        assert_eq!(fs::read_dir(workspace.path().join("target")).unwrap().count(), 0);
    }
}
