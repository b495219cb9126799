//! Inputs and outputs of a graph as plain values, read from a session once.

use ort::session::Session;
use ort::value::{Outlet, TensorElementType, ValueType};
use serde::{Deserialize, Serialize};

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub element: Element,
    /// Its dimensions; empty for a scalar. The model tools' manifests call them a shape.
    #[serde(alias = "shape")]
    pub dims: Vec<Dim>,
}

/// An element type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// 32-bit float.
    Float32,
    /// 16-bit float.
    Float16,
    /// 64-bit integer.
    Int64,
    /// 32-bit integer.
    Int32,
    /// One that the engine has no use for.
    #[serde(untagged)]
    Other(String),
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Float32 => "float32",
            Self::Float16 => "float16",
            Self::Int64 => "int64",
            Self::Int32 => "int32",
            Self::Other(name) => name,
        })
    }
}

/// One dimension of a declared shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// This many, always.
    Fixed(usize),
    /// Any number, by this name; equal names are equal numbers. Empty where the graph gives none.
    Named(String),
}

impl Dim {
    /// The number, where it is fixed.
    #[must_use]
    pub const fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Named(_) => None,
        }
    }
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Named(name) if name.is_empty() => f.write_str("?"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl Port {
    /// Reads what a session declares.
    fn of(outlet: &Outlet) -> Self {
        let (element, dims) = match outlet.dtype() {
            ValueType::Tensor { ty, shape, dimension_symbols } => {
                let dim = |(size, name): (&i64, &String)| {
                    usize::try_from(*size).map_or_else(|_| Dim::Named(name.clone()), Dim::Fixed)
                };
                (element(*ty), shape.iter().zip(dimension_symbols.iter()).map(dim).collect())
            }
            other => (Element::Other(other.to_string()), Vec::new()),
        };
        Self { name: outlet.name().to_owned(), element, dims }
    }

    /// The shape as people write it, `[batch_size, 4, height, width]`.
    #[must_use]
    pub fn shape(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        format!("[{}]", dims.join(", "))
    }

    /// Whether the numbers are floats that the engine converts.
    #[must_use]
    pub fn is_float(&self) -> bool {
        matches!(self.element, Element::Float32 | Element::Float16)
    }
}

/// The engine's name of a runtime's element type.
fn element(kind: TensorElementType) -> Element {
    match kind {
        TensorElementType::Float32 => Element::Float32,
        TensorElementType::Float16 => Element::Float16,
        TensorElementType::Int64 => Element::Int64,
        TensorElementType::Int32 => Element::Int32,
        other => Element::Other(format!("{other:?}").to_lowercase()),
    }
}

/// All inputs and outputs of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
}

impl Ports {
    /// Reads what a session declares.
    pub(super) fn of(session: &Session) -> Self {
        Self {
            inputs: session.inputs().iter().map(Port::of).collect(),
            outputs: session.outputs().iter().map(Port::of).collect(),
        }
    }
}
