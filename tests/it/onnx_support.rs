//! What the tests of the ONNX backend share: the runtime, the models, the recorded values.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use falgate::engine::onnx::{LibraryPlaces, OnnxBackend, OnnxSettings, cached};
use falgate::engine::{ClipTokenizer, LoadProgress, Provider};
use safetensors::{Dtype, SafeTensors};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A model of `tests/models`.
pub(crate) fn model(name: &str) -> PathBuf {
    root().join("tests/models").join(name)
}

/// Where the runtime is; `None`, said aloud, where it is not and need not be.
pub(crate) fn places() -> Option<LibraryPlaces> {
    let variable = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let places = LibraryPlaces { configured: None, variable, caches: cached(&[root().join("target")], Provider::Cpu) };
    if let Err(error) = places.find() {
        let required = std::env::var("FALGATE_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|word| word.trim() == "model"), "{error}");
        println!("skipped: {error}");
        return None;
    }
    Some(places)
}

/// A model that is open, for one test at a time.
pub(crate) struct Open {
    pub(crate) backend: OnnxBackend,
    pub(crate) tokenizer: ClipTokenizer,
}

/// Opens a folder.
pub(crate) fn open(folder: &Path) -> Option<Open> {
    let (backend, tokenizer) =
        OnnxBackend::open(&OnnxSettings::cpu(folder), &places()?, &LoadProgress::silent()).unwrap();
    Some(Open { backend, tokenizer })
}

/// The single precision model, opened once.
pub(crate) fn single() -> Option<MutexGuard<'static, Open>> {
    static MODEL: OnceLock<Option<Mutex<Open>>> = OnceLock::new();
    let model = MODEL.get_or_init(|| open(&model("tiny-lcm-onnx")).map(Mutex::new));
    Some(model.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The half precision model, opened once.
pub(crate) fn half() -> Option<MutexGuard<'static, Open>> {
    static MODEL: OnceLock<Option<Mutex<Open>>> = OnceLock::new();
    let model = MODEL.get_or_init(|| open(&model("tiny-lcm-onnx-fp16")).map(Mutex::new));
    Some(model.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Copies the single precision model, with some parts taken from elsewhere: `(part, folder under tests/models)`.
pub(crate) fn assembled(parts: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&model("tiny-lcm-onnx"), folder.path());
    for (part, from) in parts {
        let part = folder.path().join(part);
        std::fs::remove_dir_all(&part).unwrap();
        copy(&model(from), &part);
    }
    folder
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Recorded tensors by name.
pub(crate) struct Tensors(HashMap<String, (Vec<usize>, Vec<u8>, Dtype)>);

impl Tensors {
    pub(crate) fn read(path: &str) -> Self {
        let bytes = std::fs::read(root().join(path)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let own = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            (name, (view.shape().to_vec(), view.data().to_vec(), view.dtype()))
        };
        Self(tensors.tensors().into_iter().map(own).collect())
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        let (_, bytes, dtype) = self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
        assert_eq!(*dtype, Dtype::F32, "{name}");
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    }

    pub(crate) fn integers(&self, name: &str) -> Vec<i64> {
        let (_, bytes, dtype) = self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
        assert_eq!(*dtype, Dtype::I64, "{name}");
        bytes.chunks_exact(8).map(|eight| i64::from_le_bytes(eight.try_into().unwrap())).collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        let (_, bytes, dtype) = self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
        assert_eq!(*dtype, Dtype::U8, "{name}");
        bytes
    }

    pub(crate) fn shape(&self, name: &str) -> &[usize] {
        &self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}")).0
    }
}

/// The recorded runs.
pub(crate) fn golden() -> &'static Tensors {
    static GOLDEN: OnceLock<Tensors> = OnceLock::new();
    GOLDEN.get_or_init(|| Tensors::read("tests/golden/golden.safetensors"))
}

/// The parameters of the recorded runs.
pub(crate) fn document() -> &'static serde_json::Value {
    static DOCUMENT: OnceLock<serde_json::Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let text = std::fs::read_to_string(root().join("tests/golden/golden.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    })
}

/// Largest deviations by stage, held to their tolerances and printed for the record.
#[derive(Default)]
pub(crate) struct Deviations(Vec<(&'static str, f64, f64)>);

impl Deviations {
    /// Notes one comparison of a stage that has this tolerance.
    pub(crate) fn note(&mut self, (stage, tolerance): (&'static str, f64), got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len(), "{stage}");
        let worst =
            got.iter().zip(want).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).fold(0.0, |worst, next| {
                assert!(!next.is_nan(), "{stage}");
                f64::max(worst, next)
            });
        match self.0.iter_mut().find(|(name, ..)| *name == stage) {
            Some(known) => known.1 = known.1.max(worst),
            None => self.0.push((stage, worst, tolerance)),
        }
    }

    /// Notes a comparison of pixels, in levels.
    pub(crate) fn levels(&mut self, stage: (&'static str, f64), got: &[u8], want: &[u8]) {
        let floats = |bytes: &[u8]| bytes.iter().map(|byte| f32::from(*byte)).collect::<Vec<_>>();
        self.note(stage, &floats(got), &floats(want));
    }

    /// Prints all stages, then fails if one is out of its tolerance.
    pub(crate) fn check(self, title: &str) {
        for (stage, worst, tolerance) in &self.0 {
            println!("{title}: {stage:16} {worst:.2e} of {tolerance:.0e}");
        }
        for (stage, worst, tolerance) in self.0 {
            assert!(worst <= tolerance, "{title}: {stage} is off by {worst:.2e}, more than {tolerance:.0e}");
        }
    }
}
