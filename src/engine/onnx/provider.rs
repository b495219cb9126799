//! The device: what ONNX Runtime calls execution providers. Asked for and not to be had is an error, never the processor.

use ort::ep::ExecutionProviderDispatch;

use super::super::Provider;
use super::{ModelError, OnnxSettings};

/// Prepares the provider; called before the runtime is loaded, because its libraries must be there first.
///
/// # Errors
/// [`ModelError::Provider`] if this build cannot have it or one of its libraries is missing.
pub(super) fn prepare(settings: &OnnxSettings) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
    match settings.provider {
        Provider::Cpu => Ok(Vec::new()),
        Provider::Cuda => cuda(settings),
    }
}

/// The device's name for logs.
pub(super) fn device(settings: &OnnxSettings) -> String {
    match settings.provider {
        Provider::Cpu => "cpu".to_owned(),
        Provider::Cuda => format!("cuda:{}", settings.device),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: &OnnxSettings) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
    let why = "this falgate was built without its feature cuda".to_owned();
    Err(ModelError::Provider { why })
}

#[cfg(feature = "cuda")]
fn cuda(settings: &OnnxSettings) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
    use ort::ep;

    let refuse = |why| ModelError::Provider { why };
    for name in ep::cuda::CUDA_DYLIBS.iter().chain(ep::cuda::CUDNN_DYLIBS) {
        for path in settings.cuda_libraries.iter().map(|folder| folder.join(name)).filter(|path| path.is_file()) {
            ort::util::preload_dylib(&path)
                .map_err(|error| refuse(format!("{} cannot be loaded ({error})", path.display())))?;
        }
    }
    // The provider opens cuDNN only at the first convolution, and without it convolves slowly or not at all.
    if let Err(error) = ort::util::preload_dylib("libcudnn.so.9") {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        return Err(refuse(explain(&format!("with error: {why}"))));
    }
    let device = i32::try_from(settings.device).map_err(|_| refuse(format!("{} is no device", settings.device)))?;
    let provider = ep::CUDA::default()
        .with_device_id(device)
        // Never DEFAULT: with cuDNN 9 that is the slow fallback.
        .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Exhaustive)
        .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
        .build()
        .error_on_failure();
    Ok(vec![provider])
}

/// What a failure to register a provider means, as the end of a sentence.
pub(super) fn explain(message: &str) -> String {
    if message.contains("is not enabled in this build") {
        return "the ONNX Runtime library is the CPU build; fetch the other with GPU=1 scripts/fetch-onnxruntime.sh"
            .to_owned();
    }
    let library = message
        .split_once("with error: ")
        .and_then(|(_, rest)| rest.split_once(':'))
        .map(|(name, _)| name.trim())
        .filter(|name| name.contains(".so") && !name.contains(' '));
    match library {
        Some(name) if name.contains("libcuda.so") => format!("{name} is missing: there is no NVIDIA driver here"),
        Some(name) => format!(
            "{name} is missing: install CUDA 13 and cuDNN 9, or name the folder that has it in engine.cuda_libraries"
        ),
        None => format!("the provider does not start ({})", message.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named() {
        let message = "Failed to load library /x/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot \
                       open shared object file: No such file or directory";
        assert!(explain(message).starts_with("libcublasLt.so.13 is missing: install CUDA 13"), "{}", explain(message));
        let message = message.replace("libcublasLt.so.13", "libcuda.so.1");
        assert_eq!(explain(&message), "libcuda.so.1 is missing: there is no NVIDIA driver here");
        let message = "CUDA execution provider is not enabled in this build. ";
        assert!(explain(message).contains("GPU=1 scripts/fetch-onnxruntime.sh"));
        assert_eq!(explain("no such device"), "the provider does not start (no such device)");
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_cuda_refuses_cuda() {
        let settings = OnnxSettings { provider: Provider::Cuda, ..OnnxSettings::cpu("model") };
        let error = prepare(&settings).err().unwrap();
        let want = "engine.provider asks for cuda, but this falgate was built without its feature cuda";
        assert_eq!(error.to_string(), want);
    }
}
