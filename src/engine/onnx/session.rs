//! Opening a graph, and running it with errors that say what they mean.

use std::borrow::Cow;
use std::path::Path;

use ort::ep::ExecutionProviderDispatch;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::DynValue;

use super::super::BackendError;
use super::{ModelError, Ports, Runtime, provider, tensors};

/// What is said of a graph with operators that the CPU provider lacks.
pub(super) const FOR_CUDA: &str =
    "the model was optimized for CUDA; run it with the provider cuda, or take the export before optimization";

/// What a session is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run: the graph is optimized, which takes seconds.
    Serve,
    /// To read its inputs and outputs only.
    Look,
}

/// One graph of the model on its device.
#[derive(Debug)]
pub(super) struct Part {
    /// The part's name.
    name: &'static str,
    /// The open graph.
    session: Session,
}

impl Part {
    /// Opens a graph by its path, so that weights in files beside it are found.
    ///
    /// # Errors
    /// [`ModelError::Provider`] if the device cannot be had, [`ModelError::Open`] if the runtime refuses the graph.
    pub(super) fn open(
        runtime: &Runtime,
        providers: &[ExecutionProviderDispatch],
        (name, path): (&'static str, &Path),
        purpose: Purpose,
    ) -> Result<Self, ModelError> {
        let builder = || {
            let level = match purpose {
                Purpose::Serve => GraphOptimizationLevel::All,
                Purpose::Look => GraphOptimizationLevel::Disable,
            };
            // A memory pattern would be planned anew for every size and batch, and keeps the peak of each.
            Session::builder(runtime.environment())?
                .with_optimization_level(level)?
                .with_memory_pattern(false)
                .map_err(ort::Error::from)
        };
        let mut builder =
            builder().map_err(|cause| ModelError::Open { part: name, why: explain(cause.message()), cause })?;
        if !providers.is_empty() {
            builder = builder
                .with_execution_providers(providers)
                .map_err(|cause| ModelError::Provider { why: provider::explain(cause.message()) })?;
        }
        let session = builder.commit_from_file(path).map_err(|cause| ModelError::Open {
            part: name,
            why: explain(cause.message()),
            cause,
        })?;
        Ok(Self { name, session })
    }

    /// What the graph declares.
    pub(super) fn ports(&self) -> Ports {
        Ports::of(&self.session)
    }

    /// Runs the graph and copies one output out: its shape and finite values.
    ///
    /// # Errors
    /// [`BackendError`] when the runtime fails or a value is not finite.
    pub(super) fn run(
        &mut self,
        inputs: Vec<(Cow<'static, str>, DynValue)>,
        output: &str,
    ) -> Result<(Vec<usize>, Vec<f32>), BackendError> {
        let part = self.name;
        let (shape, values) = self.run_unchecked(inputs, output)?;
        if is_finite(&values) { Ok((shape, values)) } else { Err(BackendError::NotFinite { part, rows: Vec::new() }) }
    }

    /// As [`Part::run`], for whoever looks at the values row by row.
    ///
    /// # Errors
    /// [`BackendError`] when the runtime fails.
    pub(super) fn run_unchecked(
        &mut self,
        inputs: Vec<(Cow<'static, str>, DynValue)>,
        output: &str,
    ) -> Result<(Vec<usize>, Vec<f32>), BackendError> {
        let part = self.name;
        let failed = |cause| run_error(part, cause);
        let outputs = self.session.run(inputs).map_err(failed)?;
        let value = outputs.get(output).ok_or_else(|| {
            let cause = format!("no output {output}").into();
            BackendError::Run { part, cause }
        })?;
        tensors::read(value).map_err(failed)
    }

    /// Runs the graph and copies one output of booleans out.
    ///
    /// # Errors
    /// [`BackendError`] when the runtime fails or the output holds something else.
    pub(super) fn flags(
        &mut self,
        inputs: Vec<(Cow<'static, str>, DynValue)>,
        output: &str,
    ) -> Result<Vec<bool>, BackendError> {
        let part = self.name;
        let failed = |cause| run_error(part, cause);
        let outputs = self.session.run(inputs).map_err(failed)?;
        let value = outputs.get(output).ok_or_else(|| {
            let cause = format!("no output {output}").into();
            BackendError::Run { part, cause }
        })?;
        let (_, flags) = value.try_extract_tensor::<bool>().map_err(failed)?;
        Ok(flags.to_vec())
    }
}

/// Whether there is neither NaN nor infinity in it.
pub(super) fn is_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// A failed run: out of memory, or anything else.
pub(super) fn run_error(part: &'static str, cause: ort::Error) -> BackendError {
    let message = cause.message();
    let memory = ["Failed to allocate memory", "out of memory", "CUDNN_STATUS_ALLOC_FAILED", "bad_alloc"];
    if memory.iter().any(|sign| message.contains(sign)) {
        return BackendError::OutOfMemory;
    }
    BackendError::Run { part, cause: Box::new(cause) }
}

/// What the runtime's refusal of a graph means.
fn explain(message: &str) -> String {
    let has = |signs: &[&str]| signs.iter().any(|sign| message.contains(sign));
    if has(&["Could not find an implementation for", "Failed to find kernel for com.microsoft"]) {
        return FOR_CUDA.to_owned();
    }
    if has(&["Protobuf parsing failed", "ModelProto does not have a graph", "No graph was found"]) {
        return "its model.onnx is cut off or no ONNX graph".to_owned();
    }
    if has(&[
        "external data",
        "External data",
        "External initializer",
        "External file",
        "out of bounds or can not be read",
    ]) {
        return "the file with its weights is missing or cut off".to_owned();
    }
    let first: String = message.lines().next().unwrap_or_default().chars().take(300).collect();
    format!("the runtime refuses the graph ({first})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_for_another_device_is_called_that() {
        let message = "Could not find an implementation for NhwcConv(1) node with name 'conv'";
        assert!(explain(message).starts_with("the model was optimized for CUDA"));
        let message = "Failed to find kernel for com.microsoft.GroupNorm(1) (node:'g' ep:'CPUExecutionProvider')";
        assert!(explain(message).starts_with("the model was optimized for CUDA"));
    }

    #[test]
    fn what_the_engine_does_not_know_is_quoted_up_to_its_first_line() {
        assert_eq!(explain("Type error\nstack"), "the runtime refuses the graph (Type error)");
    }
}
