//! What set-up sees of the machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::runtime::{self, Installed};

/// Looking at a machine; a trait only because tests need machines that lack things.
pub trait System {
    /// Is this program on the search path, or where the system keeps its daemons?
    fn command(&self, name: &str) -> bool;
    /// What `pkg-config --modversion` says.
    fn module_version(&self, module: &str) -> Option<String>;
    /// Is `libgst<name>.so` in the folder from which GStreamer loads its plugins?
    fn plugin(&self, name: &str) -> bool;
    /// Is there a Python that has pip?
    fn pip(&self) -> bool;
    /// ONNX Runtime, as far as it is here.
    fn runtime(&self) -> Installed;
    /// The user id is 0.
    fn root(&self) -> bool;
    /// The folder that holds the workspace.
    fn workspace(&self) -> &Path;
}

/// This machine.
pub struct Local {
    workspace: PathBuf,
    folders: Vec<PathBuf>,
    users_runtime: Option<PathBuf>,
}

impl Local {
    /// # Errors
    /// A [`crate::Mistake`] where `HUIYAN_ONNXRUNTIME` names a file that is not there.
    pub fn look(workspace: &Path) -> Result<Local> {
        let mut folders: Vec<PathBuf> =
            env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
        // Debian keeps /usr/sbin, where mosquitto is, off an ordinary user's path.
        folders.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
        let users_runtime = runtime::users(workspace, env::var_os(runtime::VARIABLE))?;
        Ok(Local { workspace: workspace.into(), folders, users_runtime })
    }

    fn plugins_folder(&self) -> Option<PathBuf> {
        ask("pkg-config", &["--variable=pluginsdir", "gstreamer-1.0"]).map(PathBuf::from)
    }
}

impl System for Local {
    fn command(&self, name: &str) -> bool {
        self.folders.iter().any(|folder| folder.join(name).is_file())
    }

    fn module_version(&self, module: &str) -> Option<String> {
        ask("pkg-config", &["--modversion", module])
    }

    fn plugin(&self, name: &str) -> bool {
        let file = format!("libgst{name}.so");
        let more = ["GST_PLUGIN_SYSTEM_PATH_1_0", "GST_PLUGIN_PATH_1_0", "GST_PLUGIN_PATH"]
            .into_iter()
            .filter_map(env::var_os);
        let more: Vec<PathBuf> = more.flat_map(|path| env::split_paths(&path).collect::<Vec<_>>()).collect();
        self.plugins_folder().into_iter().chain(more).any(|folder| folder.join(&file).is_file())
    }

    fn pip(&self) -> bool {
        python().is_some()
    }

    fn runtime(&self) -> Installed {
        match &self.users_runtime {
            Some(_) => Installed::Users,
            None => runtime::installed(&self.workspace),
        }
    }

    fn root(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
    }

    fn workspace(&self) -> &Path {
        &self.workspace
    }
}

/// The first Python that has pip. A virtual environment without pip must not hide the system's.
pub fn python() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| ask(python, &["-m", "pip", "--version"]).is_some())
}

/// What a short command prints, trimmed; `None` where it cannot be started, fails, or prints nothing.
fn ask(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
pub mod fake {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::System;
    use crate::requirement::{ALL, Probe};
    use crate::runtime::Installed;

    /// A machine that has what a test puts there.
    pub struct Fake {
        pub commands: BTreeSet<&'static str>,
        pub modules: BTreeMap<&'static str, &'static str>,
        pub plugins: BTreeSet<&'static str>,
        pub pip: bool,
        pub runtime: Installed,
        pub root: bool,
    }

    impl Default for Fake {
        fn default() -> Fake {
            Fake {
                commands: BTreeSet::new(),
                modules: BTreeMap::new(),
                plugins: BTreeSet::new(),
                pip: false,
                runtime: Installed::Absent,
                root: false,
            }
        }
    }

    impl Fake {
        /// Has everything in the table.
        pub fn full() -> Fake {
            let mut fake = Fake { pip: true, runtime: Installed::Pinned, ..Fake::default() };
            for requirement in ALL {
                match requirement.probe {
                    Probe::Command(name) => drop(fake.commands.insert(name)),
                    Probe::Module(name, _) => drop(fake.modules.insert(name, "1.22.0")),
                    Probe::Plugin(name) => drop(fake.plugins.insert(name)),
                    Probe::PipForRuntime | Probe::Runtime => {}
                }
            }
            fake
        }
    }

    impl System for Fake {
        fn command(&self, name: &str) -> bool {
            self.commands.contains(name)
        }
        fn module_version(&self, module: &str) -> Option<String> {
            self.modules.get(module).map(ToString::to_string)
        }
        fn plugin(&self, name: &str) -> bool {
            self.plugins.contains(name)
        }
        fn pip(&self) -> bool {
            self.pip
        }
        fn runtime(&self) -> Installed {
            self.runtime
        }
        fn root(&self) -> bool {
            self.root
        }
        fn workspace(&self) -> &Path {
            Path::new(".")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_or_is_not_there_answers_nothing() {
        assert_eq!(ask("sh", &["-c", "echo 1.22.0"]), Some("1.22.0".into()));
        assert_eq!(ask("sh", &["-c", "echo 1.22.0; exit 1"]), None);
        assert_eq!(ask("no-such-program-anywhere", &[]), None);
    }

    #[test]
    fn programs_are_found_on_the_path_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mosquitto"), "").unwrap();
        let local = Local { workspace: ".".into(), folders: vec![folder.path().into()], users_runtime: None };
        assert!(local.command("mosquitto"));
        assert!(!local.command("cc"));
    }
}
