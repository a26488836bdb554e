//! `cargo xtask setup`: look, decide, act, look again.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::requirement::{ALL, Missing, Source, missing, packages};
use crate::system::System;
use crate::{apt, runtime};

/// Lists what is missing and touches nothing.
pub fn check(system: &dyn System) -> ExitCode {
    let lacks = missing(system);
    if lacks.is_empty() {
        say_complete();
        return ExitCode::SUCCESS;
    }
    println!("{}", listing(&lacks));
    println!("`cargo xtask setup` installs it.");
    ExitCode::FAILURE
}

/// Installs what is missing; says one line and returns at once where nothing is.
pub fn install(system: &dyn System) -> Result<()> {
    let lacks = missing(system);
    if lacks.is_empty() {
        say_complete();
        return Ok(());
    }
    println!("{}", listing(&lacks));
    install_packages(&lacks, system)?;
    if lacks.iter().any(|item| item.requirement.source == Source::Wheel) {
        runtime::install(system.workspace())?;
    }
    say_complete();
    Ok(())
}

fn say_complete() {
    println!("set-up: everything is there ({} requirements)", ALL.len());
}

fn listing(lacks: &[Missing]) -> String {
    let lines: Vec<String> = lacks.iter().map(Missing::line).collect();
    format!("set-up: {} of {} requirements are missing:\n{}", lacks.len(), ALL.len(), lines.join("\n"))
}

fn install_packages(lacks: &[Missing], system: &dyn System) -> Result<()> {
    let names = packages(lacks);
    if names.is_empty() {
        return Ok(());
    }
    if !system.command("apt-get") {
        bail!("{}", apt::instructions(lacks));
    }
    for step in apt::plan(&names, system)? {
        step.run()?;
    }
    if names.contains(&"mosquitto") {
        println!(
            "note: the package may have started a broker of its own on port 1883; the tests do not use it"
        );
    }
    still_missing(&missing(system))
}

/// After apt succeeded: what it brought may be too old (Ubuntu 22.04 has GStreamer 1.20).
fn still_missing(lacks: &[Missing]) -> Result<()> {
    let lines: Vec<String> =
        lacks.iter().filter(|item| item.requirement.source != Source::Wheel).map(Missing::line).collect();
    if !lines.is_empty() {
        bail!(
            "apt-get succeeded, yet this is still missing:\n{}\nDebian 12 and Ubuntu 24.04 are the oldest releases that \
             have what is needed; on an older one, install it by hand",
            lines.join("\n")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;

    #[test]
    fn a_system_without_apt_gets_the_list_and_nothing_is_tried() {
        let error = install(&Fake { root: true, ..Fake::default() }).unwrap_err().to_string();
        assert!(error.contains("no apt-get") && error.contains("gstreamer1.0-libav"), "{error}");
    }

    #[test]
    fn a_release_that_is_too_old_is_an_error_that_names_the_version() {
        let mut system = Fake::full();
        system.modules.insert("gstreamer-1.0", "1.20.3");
        let error = still_missing(&missing(&system)).unwrap_err().to_string();
        assert!(error.contains("here: 1.20.3") && error.contains("Ubuntu 24.04"), "{error}");
    }

    #[test]
    fn a_runtime_that_is_yet_to_come_does_not_fail_the_packages() {
        let mut system = Fake::full();
        system.runtime = crate::runtime::Installed::Absent;
        assert!(still_missing(&missing(&system)).is_ok());
    }

    #[test]
    fn check_tells_by_exit_code() {
        assert_eq!(format!("{:?}", check(&Fake::full())), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", check(&Fake::default())), format!("{:?}", ExitCode::FAILURE));
    }
}
