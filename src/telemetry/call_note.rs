//! What the request log should know about an answer.

use std::time::Duration;

/// What the request log should know about an answer. Whoever answers puts it into the response's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallNote {
    /// The endpoint that was called, where the call had one.
    pub endpoint: Option<String>,
    /// The kind of call: `run`, `submit`, ….
    pub kind: &'static str,
    /// Who answered: `engine`, `upstream` or `gate`.
    pub route: &'static str,
    /// Time spent waiting for a turn.
    pub waited: Duration,
}

/// Who called, by the name that the guard knows. The guard puts it into the response's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerNote(pub std::sync::Arc<str>);

/// What an answer really cost, where the engine knows. It puts it into the response's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkNote {
    /// Pictures that were made.
    pub pictures: u32,
    /// Time of the engine's device that they took.
    pub device: Duration,
}
