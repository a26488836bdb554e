//! ONNX Runtime's shared library, found and loaded once per process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::provider::Providers;

/// The environment variable that names the library.
const VARIABLE: &str = "HUIYAN_ONNXRUNTIME";

/// Where `cargo xtask setup` puts it, inside the build folder.
const IN_TARGET: &str = "onnxruntime/libonnxruntime.so";

/// ONNX Runtime allows one environment per process and `ort` never a second one, so the first is kept for good.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// ONNX Runtime, loaded, and what runs the models. Cheap to clone; all clones are the same environment.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
    providers: Providers,
}

/// Why ONNX Runtime is not there.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Nobody said where it is, and it is not where the set-up puts it.
    #[error(
        "ONNX Runtime was not found; `cargo xtask setup` fetches it, or name libonnxruntime.so in \
         `node.onnxruntime` or {VARIABLE} (looked for {})", list(.looked_at)
    )]
    NotFound {
        /// The places looked at.
        looked_at: Vec<PathBuf>,
    },
    /// Somebody said where it is, and it is not there.
    #[error("ONNX Runtime is not at {path} (from {named_by}); `cargo xtask setup` fetches it")]
    Missing {
        /// The path given.
        path: PathBuf,
        /// What gave it.
        named_by: &'static str,
    },
    /// The file is there but is no ONNX Runtime that this program can use.
    #[error(
        "{path} cannot be used as ONNX Runtime: {reason}; `cargo xtask setup` fetches a version that can"
    )]
    Load {
        /// The file.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// The library was built without a provider that the configuration asks for.
    #[error(
        "node.providers asks for {asked}, which {library} was built without (it has {}); install a build of ONNX Runtime \
         that has it and name its library in node.onnxruntime", .installed.join(", ")
    )]
    Provider {
        /// The provider asked for.
        asked: &'static str,
        /// Those that the library has.
        installed: Vec<&'static str>,
        /// The library.
        library: PathBuf,
    },
    /// CUDA graphs without CUDA.
    #[error(
        "node.cuda_graphs is on, but node.providers has neither cuda nor tensorrt (it has {})", .providers.join(", ")
    )]
    NoGraphs {
        /// Those that it has.
        providers: Vec<&'static str>,
    },
    /// A process can load it once.
    #[error("ONNX Runtime is already loaded from {loaded}; this process cannot load {asked} as well")]
    AnotherLoaded {
        /// The library in use.
        loaded: PathBuf,
        /// The one asked for.
        asked: PathBuf,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Runtime {
    /// Loads the library at `explicit`, or else where `HUIYAN_ONNXRUNTIME` says, or else
    /// `onnxruntime/libonnxruntime.so` in one of the folders above the program (`target/` after the set-up).
    ///
    /// A path that was given is the only one tried: falling back to another library would hide a mistake.
    pub fn load(explicit: Option<&Path>) -> Result<Self, RuntimeError> {
        let program = std::env::current_exe().unwrap_or_default();
        let library = find(explicit, std::env::var_os(VARIABLE), &program)?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some(runtime) if runtime.library == library => Ok(runtime.clone()),
            Some(runtime) => {
                Err(RuntimeError::AnotherLoaded { loaded: runtime.library.clone(), asked: library })
            }
            None => Ok(loaded.insert(Self::start(library)?).clone()),
        }
    }

    fn start(library: PathBuf) -> Result<Self, RuntimeError> {
        let failed = |reason: String| RuntimeError::Load { path: library.clone(), reason };
        let builder = ort::init_from(&library).map_err(|e| failed(e.to_string()))?;
        let environment =
            builder.with_name("huiyan").with_telemetry(false).build().map_err(|e| failed(e.to_string()))?;
        // Its log goes through `tracing`; below a warning it speaks of every node of the graph.
        environment.set_log_level(ort::logging::LogLevel::Warning);
        Ok(Self { environment, library, providers: Providers::default() })
    }

    /// The library in use.
    pub fn library(&self) -> &Path {
        &self.library
    }

    pub(crate) fn providers(&self) -> &Providers {
        &self.providers
    }

    pub(crate) fn set_providers(&mut self, providers: Providers) {
        self.providers = providers;
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn find(
    explicit: Option<&Path>,
    variable: Option<OsString>,
    program: &Path,
) -> Result<PathBuf, RuntimeError> {
    let named = explicit
        .map(|path| (path.to_owned(), "the configuration"))
        .or_else(|| variable.filter(|v| !v.is_empty()).map(|v| (v.into(), VARIABLE)));
    if let Some((path, named_by)) = named {
        // Canonical, so that two spellings of one file are one library.
        return path.canonicalize().map_err(|_| RuntimeError::Missing { path, named_by });
    }
    // `target/debug/huiyan`, `target/debug/deps/test-…`, `target/debug/examples/…`: at most three folders up.
    let looked_at: Vec<_> =
        program.ancestors().skip(1).take(3).map(|folder| folder.join(IN_TARGET)).collect();
    let found = looked_at.iter().find_map(|path| path.canonicalize().ok());
    found.ok_or(RuntimeError::NotFound { looked_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_explicit_path_comes_first_then_the_variable_then_the_build_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("target/onnxruntime")).unwrap();
        let [explicit, variable] = ["a.so", "b.so"].map(|name| root.join(name));
        let set_up = root.join("target").join(IN_TARGET);
        for path in [&explicit, &variable, &set_up] {
            std::fs::write(path, "").unwrap();
        }
        let program = root.join("target/debug/deps/test-1234");
        let from_variable = Some(variable.clone().into_os_string());
        assert_eq!(find(Some(&explicit), from_variable.clone(), &program).unwrap(), explicit);
        assert_eq!(find(None, from_variable, &program).unwrap(), variable);
        assert_eq!(find(None, None, &program).unwrap(), set_up);
    }

    #[test]
    fn a_missing_library_says_how_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("libonnxruntime.so");
        let program = folder.path().join("debug/huiyan");
        let errors = [
            find(Some(&nowhere), None, &program).unwrap_err().to_string(),
            find(None, Some(nowhere.clone().into()), &program).unwrap_err().to_string(),
            find(None, None, &program).unwrap_err().to_string(),
        ];
        for error in &errors {
            assert!(error.contains("cargo xtask setup"), "{error}");
            assert!(error.contains(&folder.path().display().to_string()), "{error}");
        }
        assert!(errors[1].contains(VARIABLE), "{}", errors[1]);
    }
}
