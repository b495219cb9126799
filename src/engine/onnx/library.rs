//! Finding and loading the ONNX Runtime library, once per process.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;

use super::super::Provider;
use super::LibraryError;

/// The oldest minor version whose interface is used, as the `api-24` feature of `ort` demands.
const LEAST: u32 = 24;
/// The version that `scripts/fetch-onnxruntime.sh` pins.
const PINNED: &str = "1.31.1";

/// Where the library may be. The first place that is named counts: a wrong name is an error, never skipped.
#[derive(Debug, Clone, Default)]
pub struct LibraryPlaces {
    /// The setting.
    pub configured: Option<PathBuf>,
    /// The value of `ORT_DYLIB_PATH`, which only `main` reads.
    pub variable: Option<PathBuf>,
    /// Files that may exist, best first; see [`cached`].
    pub caches: Vec<PathBuf>,
}

/// Who named a library file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The setting `engine.library`.
    Setting,
    /// The environment variable `ORT_DYLIB_PATH`.
    Variable,
    /// `scripts/fetch-onnxruntime.sh` put it into the cache.
    Cache,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Setting => "engine.library",
            Self::Variable => "ORT_DYLIB_PATH",
            Self::Cache => "the cache",
        })
    }
}

/// Files that the fetch script writes under the `target` folders, the build for this provider first.
///
/// The CUDA build runs on the processor too, the CPU build nowhere else.
#[must_use]
pub fn cached(targets: &[PathBuf], provider: Provider) -> Vec<PathBuf> {
    let kinds = match provider {
        Provider::Cpu => ["cpu", "gpu"],
        Provider::Cuda => ["gpu", "cpu"],
    };
    targets
        .iter()
        .flat_map(|target| {
            kinds.map(|kind| {
                target.join("onnxruntime").join(format!("{PINNED}-{kind}")).join(format!("libonnxruntime.so.{PINNED}"))
            })
        })
        .collect()
}

/// A library file that is there and looks like one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The absolute path.
    pub path: PathBuf,
    /// Who named it.
    pub origin: Origin,
}

impl LibraryPlaces {
    /// Finds the library without loading it.
    ///
    /// # Errors
    /// [`LibraryError`] if no place has it, or the place that is named has no shared library.
    pub fn find(&self) -> Result<Found, LibraryError> {
        let named = |path: &Option<PathBuf>, origin| path.clone().map(|path| (path, origin));
        let (path, origin) = named(&self.configured, Origin::Setting)
            .or_else(|| named(&self.variable, Origin::Variable))
            .or_else(|| self.caches.iter().find(|path| path.is_file()).map(|path| (path.clone(), Origin::Cache)))
            .ok_or(LibraryError::Nowhere)?;
        // Absolute, because the loader looks for relative names in other places than a person would.
        let Ok(path) = path.canonicalize() else { return Err(LibraryError::Missing { path, origin }) };
        if path.is_file() && is_library(&path) {
            Ok(Found { path, origin })
        } else {
            Err(LibraryError::NotALibrary { path, origin })
        }
    }
}

/// Whether a file begins as a shared library of Linux, macOS or Windows does.
fn is_library(path: &Path) -> bool {
    let mut head = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok()
        && (head == *b"\x7fELF"
            || head.starts_with(b"MZ")
            || matches!(u32::from_le_bytes(head), 0xfeed_facf | 0xfeed_face | 0xbeba_feca))
}

/// The loaded library and its one environment. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Runtime(Arc<Loaded>);

/// What [`Runtime`] shares.
#[derive(Debug)]
struct Loaded {
    environment: Environment,
    found: Found,
    threads: Option<NonZeroUsize>,
}

/// The one runtime of the process.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the library, or gives the one that is loaded.
    ///
    /// The threads belong to the process, shared by all sessions: the first call decides how many (`None`: one a core).
    ///
    /// # Errors
    /// [`LibraryError`], always as an error and never as a panic, if the file is not a usable ONNX Runtime.
    pub fn load(places: &LibraryPlaces, threads: Option<NonZeroUsize>) -> Result<Self, LibraryError> {
        let found = places.find()?;
        let mut slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = slot.as_ref() {
            if runtime.0.found.path != found.path {
                return Err(LibraryError::Another { wanted: found.path, loaded: runtime.0.found.path.clone() });
            }
            if runtime.0.threads != threads {
                tracing::warn!(wanted = ?threads, kept = ?runtime.0.threads, "the runtime keeps the threads it started with");
            }
            return Ok(runtime.clone());
        }
        check(&found)?;
        let runtime = Self(Arc::new(start(found, threads)?));
        tracing::info!(library = %runtime.path().display(), build = ort::info(), "loaded ONNX Runtime");
        *slot = Some(runtime.clone());
        Ok(runtime)
    }

    /// The file that was loaded.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.found.path
    }

    /// The library's own words about its build.
    #[must_use]
    pub fn describe(&self) -> String {
        ort::info().to_owned()
    }

    /// The environment that sessions live in.
    pub(super) fn environment(&self) -> &Environment {
        &self.0.environment
    }
}

/// Refuses a library that is another one or too old, before anything of it is kept.
fn check(found: &Found) -> Result<(), LibraryError> {
    let Found { path, origin } = found.clone();
    match ort::util::probe(&path) {
        Some(minor) if minor < LEAST => Err(LibraryError::TooOld { path, origin, minor, least: LEAST }),
        Some(_) => Ok(()),
        None => match ort::init_from(&path) {
            Err(cause) => Err(LibraryError::NotOnnxRuntime { path, origin, why: explain(cause) }),
            Ok(_) => Err(LibraryError::NotOnnxRuntime { path, origin, why: "its version is not 1.x".to_owned() }),
        },
    }
}

/// What the loader means, without the path that the sentence already has.
fn explain(cause: ort::LoadDynamicError) -> String {
    match cause {
        ort::LoadDynamicError::Dlopen { error, .. } => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            source.unwrap_or_else(|| error.to_string())
        }
        ort::LoadDynamicError::MissingApi { .. } => "it has no OrtGetApiBase".to_owned(),
        ort::LoadDynamicError::InvalidVersionString => "its version is not text".to_owned(),
        ort::LoadDynamicError::BadVersion { version_str, .. } => format!("its version is {version_str}"),
    }
}

/// Loads for good. From here on `ort` may be used.
fn start(found: Found, threads: Option<NonZeroUsize>) -> Result<Loaded, LibraryError> {
    let Found { path, origin } = found.clone();
    let builder = ort::init_from(&path).map_err(|cause| LibraryError::NotOnnxRuntime {
        path: path.clone(),
        origin,
        why: explain(cause),
    })?;
    let environment = pool(threads)
        .and_then(|pool| builder.with_name("falgate").with_telemetry(false).with_global_thread_pool(pool).build())
        .map_err(|cause| LibraryError::Start { path, cause })?;
    // It starts at its most talkative, and would format a line a graph node only to have it filtered out.
    environment.set_log_level(LogLevel::Warning);
    Ok(Loaded { environment, found, threads })
}

/// One pool for all sessions. Its threads sleep while there is nothing to do: falgate shares its machine.
fn pool(threads: Option<NonZeroUsize>) -> ort::Result<GlobalThreadPoolOptions> {
    GlobalThreadPoolOptions::default()
        .with_intra_threads(threads.map_or(0, NonZeroUsize::get))?
        .with_inter_threads(1)?
        .with_spin_control(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(configured: Option<&Path>, variable: Option<&Path>, caches: &[PathBuf]) -> LibraryPlaces {
        LibraryPlaces {
            configured: configured.map(Into::into),
            variable: variable.map(Into::into),
            caches: caches.to_vec(),
        }
    }

    #[test]
    fn the_setting_goes_before_the_variable_before_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().canonicalize().unwrap().join(name);
            std::fs::write(&path, b"\x7fELF").unwrap();
            path
        };
        let (a, b, c) = (file("a"), file("b"), file("c"));
        let absent = folder.path().join("absent");
        let caches = [absent.clone(), c.clone()];
        let find = |places: LibraryPlaces| places.find().map(|found| (found.path, found.origin));
        assert_eq!(find(places(Some(&a), Some(&b), &caches)).unwrap(), (a, Origin::Setting));
        assert_eq!(find(places(None, Some(&b), &caches)).unwrap(), (b, Origin::Variable));
        assert_eq!(find(places(None, None, &caches)).unwrap(), (c, Origin::Cache));
        let error = find(places(Some(&absent), None, &caches)).unwrap_err();
        assert!(error.to_string().ends_with("absent, named by engine.library, does not exist"), "{error}");
        let error = find(places(None, None, &[absent])).unwrap_err();
        assert!(error.to_string().contains("scripts/fetch-onnxruntime.sh"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_before_it_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("libonnxruntime.so");
        std::fs::write(&text, "no library").unwrap();
        for path in [text.as_path(), folder.path()] {
            let error = places(None, Some(path), &[]).find().unwrap_err();
            assert!(error.to_string().ends_with("named by ORT_DYLIB_PATH, is not a shared library"), "{error}");
        }
    }

    #[test]
    fn a_broken_library_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("libbroken.so");
        std::fs::write(&path, b"\x7fELF and nothing that a loader takes").unwrap();
        let found = Found { path, origin: Origin::Setting };
        let error = check(&found).unwrap_err().to_string();
        assert!(error.contains("libbroken.so, named by engine.library, cannot be loaded as ONNX Runtime ("), "{error}");
    }

    #[test]
    fn the_cache_is_where_the_script_writes() {
        let script = include_str!("../../../scripts/fetch-onnxruntime.sh");
        assert!(script.contains(&format!("version={PINNED}\n")));
        let paths = cached(&[PathBuf::from("target")], Provider::Cpu);
        let want = format!("target/onnxruntime/{PINNED}-cpu/libonnxruntime.so.{PINNED}");
        assert_eq!(paths[0], PathBuf::from(want));
        assert_eq!(paths.len(), 2);
        assert_eq!(cached(&[PathBuf::from("target")], Provider::Cuda)[1], paths[0]);
    }
}
