//! Where in the configuration a value stands.

use std::fmt;

use serde_path_to_error::{Path, Segment};
use toml::{Table, Value};

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    At(usize),
}

/// The way from the root to a value, shown as `route[1].endpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPath(pub(super) Vec<Step>);

impl KeyPath {
    /// Reads `guard.keys.env`, without list places.
    pub(super) fn keys(dotted: &str) -> Self {
        Self(dotted.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    pub(super) fn at(&self, index: usize) -> Self {
        self.step(Step::At(index))
    }

    fn step(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// Whether one of the two leads through the other.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine == theirs)
    }

    /// The value that the path leads to.
    pub(super) fn find_mut<'a>(&self, root: &'a mut Table) -> Option<&'a mut Value> {
        let (Step::Key(first), rest) = self.0.split_first()? else { return None };
        rest.iter().try_fold(root.get_mut(first)?, |value, step| match step {
            Step::Key(key) => value.as_table_mut()?.get_mut(key),
            Step::At(index) => value.as_array_mut()?.get_mut(*index),
        })
    }

    /// Takes the value out. Gives `None` where there is none.
    pub(super) fn remove(&self, root: &mut Table) -> Option<Value> {
        let (last, before) = self.0.split_last()?;
        match (last, before) {
            (Step::Key(key), []) => root.remove(key),
            (Step::Key(key), _) => Self(before.to_vec()).find_mut(root)?.as_table_mut()?.remove(key),
            (Step::At(index), _) => {
                let list = Self(before.to_vec()).find_mut(root)?.as_array_mut()?;
                (*index < list.len()).then(|| list.remove(*index))
            }
        }
    }
}

impl From<&Path> for KeyPath {
    /// Ends at the first step that TOML cannot follow.
    fn from(path: &Path) -> Self {
        let steps = path.iter().map_while(|segment| match segment {
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Seq { index } => Some(Step::At(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        Self(steps.collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if place == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::At(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
