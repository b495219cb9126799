//! The safety checker of a model folder: CLIP's picture encoder and a list of concepts, in one graph that says yes or no.

mod clip;
mod settings;
mod signature;

use std::borrow::Cow;
use std::path::Path;

use super::batches::calls;
use super::session::{Part, run_error};
use super::{Element, ModelError, Ports, tensors};
use crate::engine::{BackendError, Picture};

use clip::Clip;

/// The part's name, and its folder's.
pub(super) const PART: &str = "safety_checker";

/// A safety checker on its device.
#[derive(Debug)]
pub(super) struct Checker {
    part: Part,
    signature: signature::Checker,
    clip: Clip,
}

/// Whether a model folder has a checker that can be opened. Weights of other runtimes in its place count for nothing.
#[must_use]
pub fn has_safety_checker(folder: &Path) -> bool {
    folder.join(PART).join("model.onnx").is_file()
}

/// Checks what a graph declares against how the folder says that pictures are prepared.
///
/// # Errors
/// [`ModelError`] with what does not fit.
pub(super) fn fits(folder: &Path, ports: &Ports) -> Result<(), ModelError> {
    plan(folder, ports).map(drop)
}

fn plan(folder: &Path, ports: &Ports) -> Result<(signature::Checker, Clip), ModelError> {
    let clip = settings::read(folder)?;
    let signature = signature::checker(ports, clip.side)?;
    Ok((signature, clip))
}

impl Checker {
    /// Takes a graph that was opened.
    ///
    /// # Errors
    /// [`ModelError`] with what of the graph or of the folder's settings does not fit.
    pub(super) fn new(folder: &Path, part: Part) -> Result<Self, ModelError> {
        let (signature, clip) = plan(folder, &part.ports())?;
        Ok(Self { part, signature, clip })
    }

    /// Whether it computes in half precision: what overflows there is no number, and compares as clean.
    pub(super) fn is_half(&self) -> bool {
        self.signature.clip_input.element == Element::Float16
    }

    /// Says for each picture, of whatever size, whether it is flagged; at most `most` share a call.
    ///
    /// # Errors
    /// [`BackendError`] when the runtime fails or does not give a verdict for each.
    pub(super) fn check(&mut self, pictures: &[&Picture], most: usize) -> Result<Vec<bool>, BackendError> {
        let Self { part, signature, clip } = self;
        let side = clip.side as usize;
        let failed = |cause| run_error(PART, cause);
        let mut flags = Vec::with_capacity(pictures.len());
        for call in calls(&vec![0; pictures.len()], signature.batch, most) {
            let rows = call.slots.len();
            let mut planes = Vec::with_capacity(rows * 3 * side * side);
            for slot in &call.slots {
                clip.planes(pictures[*slot], &mut planes);
            }
            let input = &signature.clip_input;
            let tensor = tensors::tensor(&input.element, &[rows, 3, side, side], planes).map_err(failed)?;
            let mut inputs = vec![(Cow::Owned(input.name.clone()), tensor)];
            if let Some(images) = &signature.images {
                let shape = images.shape(rows);
                let blank = vec![0.0; shape.iter().product()];
                let tensor = tensors::tensor(&images.element, &shape, blank).map_err(failed)?;
                inputs.push((Cow::Owned(images.name.clone()), tensor));
            }
            let verdicts = part.flags(inputs, &signature.output)?;
            if verdicts.len() != rows {
                return Err(BackendError::Count { got: verdicts.len(), want: rows });
            }
            flags.extend(verdicts.into_iter().take(call.kept));
        }
        Ok(flags)
    }
}
