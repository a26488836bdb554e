//! Debian packages: which commands install them, as a pure function, and what to say where there is no apt.

use anyhow::{Result, bail};

use crate::requirement::{Missing, packages};
use crate::step::Step;
use crate::system::System;

/// The steps that install `names`.
///
/// # Errors
/// Where this user may not install: says which command an administrator has to run.
pub fn plan(names: &[&str], system: &dyn System) -> Result<Vec<Step>> {
    let sudo: &[&str] = match (system.root(), system.command("sudo")) {
        (true, _) => &[],
        (false, true) => &["sudo"],
        (false, false) => bail!(
            "installing packages needs root, and sudo is not on this machine; as root, run: {}",
            by_hand(names)
        ),
    };
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(names);
    let mut steps = Vec::new();
    if !sudo.is_empty() {
        steps.push(Step::asking("sudo (apt-get needs root)", ["sudo", "true"]));
    }
    // A broken third-party source fails the update without harm; whether the packages are found is the install's to say.
    steps.push(apt_get("apt-get update", sudo, &["update"]).may_fail());
    let what = format!("apt-get install: {} packages and what they need", names.len());
    steps.push(apt_get(what, sudo, &install));
    Ok(steps)
}

fn apt_get(what: impl Into<String>, sudo: &[&str], args: &[&str]) -> Step {
    // Ubuntu's needrestart would restart services that have nothing to do with us.
    let quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "apt-get"];
    // A machine that was just started upgrades itself and holds the lock for a while.
    let patient = ["-o", "DPkg::Lock::Timeout=300"];
    Step::new(what, [sudo, &quiet, &patient, args].concat())
}

/// The command that does the same, for a person.
pub fn by_hand(names: &[&str]) -> String {
    format!("apt-get update && apt-get install --yes --no-install-recommends {}", names.join(" "))
}

/// What to tell somebody whose system has no apt.
pub fn instructions(missing: &[Missing]) -> String {
    let mut text = String::from(
        "this system has no apt-get, so what is missing must be installed by hand with the system's own package manager\n\
         (the package names are Debian's; other systems have similar ones):\n",
    );
    for item in missing {
        text.push_str(&item.line());
        text.push('\n');
    }
    text.push_str(&format!(
        "then run `cargo xtask setup` again ({} Debian packages are meant)",
        packages(missing).len()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirement::missing;
    use crate::system::fake::Fake;

    #[test]
    fn root_installs_without_sudo_and_without_questions() {
        let steps = plan(&["ffmpeg", "mosquitto"], &Fake { root: true, ..Fake::default() }).unwrap();
        let lines: Vec<String> = steps.iter().map(Step::by_hand).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].ends_with("update"), "{lines:?}");
        assert!(lines[1].starts_with("env DEBIAN_FRONTEND=noninteractive"), "{lines:?}");
        assert!(lines[1].ends_with("install --yes --no-install-recommends ffmpeg mosquitto"), "{lines:?}");
    }

    #[test]
    fn an_ordinary_user_is_asked_by_sudo_before_anything_long_starts() {
        let system = Fake { commands: ["sudo"].into(), ..Fake::default() };
        let lines: Vec<String> = plan(&["ffmpeg"], &system).unwrap().iter().map(Step::by_hand).collect();
        assert_eq!(lines[0], "sudo true");
        assert!(
            lines[1..].iter().all(|line| line.starts_with("sudo env DEBIAN_FRONTEND=noninteractive")),
            "{lines:?}"
        );
    }

    #[test]
    fn without_root_and_sudo_the_error_is_the_command_for_an_administrator() {
        let error = plan(&["ffmpeg"], &Fake::default()).err().unwrap().to_string();
        assert!(error.contains("as root, run: apt-get update && apt-get install"), "{error}");
        assert!(error.ends_with("ffmpeg"), "{error}");
    }

    #[test]
    fn an_unknown_system_is_told_what_and_why() {
        let lacks = missing(&Fake::default());
        let text = instructions(&lacks);
        for item in &lacks {
            assert!(text.contains(item.requirement.name) && text.contains(item.requirement.why), "{text}");
        }
        assert!(text.contains("no apt-get"), "{text}");
    }
}
