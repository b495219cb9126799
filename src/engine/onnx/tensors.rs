//! Numbers at a session's door: the engine computes in `f32`, graphs take and give what they declare.

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use ort::value::{DynValue, Tensor};

use super::Element;

/// Makes a tensor of floats, or of the nearest integers, in the declared element type.
///
/// # Errors
/// [`ort::Error`] if the values do not fill the shape, or the engine has no such elements.
pub(super) fn tensor(element: &Element, shape: &[usize], values: Vec<f32>) -> ort::Result<DynValue> {
    #[expect(clippy::cast_possible_truncation, reason = "ids and timesteps are small whole numbers")]
    Ok(match element {
        Element::Float32 => Tensor::from_array((shape, values))?.into_dyn(),
        Element::Float16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(&values);
            Tensor::from_array((shape, halves))?.into_dyn()
        }
        Element::Int64 => {
            let whole: Vec<i64> = values.iter().map(|value| value.round() as i64).collect();
            Tensor::from_array((shape, whole))?.into_dyn()
        }
        Element::Int32 => {
            let whole: Vec<i32> = values.iter().map(|value| value.round() as i32).collect();
            Tensor::from_array((shape, whole))?.into_dyn()
        }
        Element::Other(name) => return Err(ort::Error::new(format!("no tensors of {name}"))),
    })
}

/// Makes a tensor of token ids.
///
/// # Errors
/// [`ort::Error`] if the ids do not fill the shape, fit the type, or the type is not one of integers.
pub(super) fn ids(element: &Element, shape: &[usize], ids: Vec<i64>) -> ort::Result<DynValue> {
    Ok(match element {
        Element::Int64 => Tensor::from_array((shape, ids))?.into_dyn(),
        Element::Int32 => {
            let small: Result<Vec<i32>, _> = ids.into_iter().map(i32::try_from).collect();
            Tensor::from_array((shape, small.map_err(ort::Error::wrap)?))?.into_dyn()
        }
        other => return Err(ort::Error::new(format!("no token ids of {other}"))),
    })
}

/// Copies a tensor of floats out: its shape and values.
///
/// # Errors
/// [`ort::Error`] if the tensor does not hold floats.
pub(super) fn read(value: &DynValue) -> ort::Result<(Vec<usize>, Vec<f32>)> {
    let shape = |dims: &[i64]| dims.iter().map(|size| usize::try_from(*size).unwrap_or_default()).collect();
    if let Ok((dims, halves)) = value.try_extract_tensor::<f16>() {
        return Ok((shape(dims), halves.to_f32_vec()));
    }
    let (dims, values) = value.try_extract_tensor::<f32>()?;
    Ok((shape(dims), values.to_vec()))
}
