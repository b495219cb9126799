//! Lays `FALGATE__GUARD__KEYS__ENV=…` over what the file says.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::environment::{Environment, SETTING_PREFIX};
use super::fault::Fault;
use super::key_path::{KeyPath, Step};

/// Keys that variables have set.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    set: BTreeMap<KeyPath, Setting>,
}

#[derive(Debug)]
struct Setting {
    variable: String,
    text: String,
}

impl Overlay {
    /// Sets every key that a variable or a flag names. A value is read as TOML, and as plain text where it is none.
    pub(super) fn apply(environment: &Environment, root: &mut Table, faults: &mut Vec<Fault>) -> Self {
        let mut overlay = Self::default();
        for (variable, value) in &environment.settings {
            let (path, setting) = match (key_path(variable), value) {
                (None, _) => {
                    faults.push(fault(variable, "", "the variable names no key"));
                    continue;
                }
                (Some(path), Err(not_text)) => {
                    faults.push(fault(variable, &path.to_string(), &not_text.to_string()));
                    continue;
                }
                (Some(path), Ok(text)) => (path, Setting { variable: variable.clone(), text: text.clone() }),
            };
            faults.extend(overlay.set(root, path, setting).err());
        }
        for flag in &environment.flags {
            let setting = Setting { variable: flag.name.to_owned(), text: flag.text.clone() };
            faults.extend(overlay.set(root, KeyPath::keys(flag.key), setting).err());
        }
        overlay
    }

    fn set(&mut self, root: &mut Table, path: KeyPath, setting: Setting) -> Result<(), Fault> {
        let value = setting.text.parse().unwrap_or_else(|_| Value::String(setting.text.clone()));
        place(root, &path, value).map_err(|what| fault(&setting.variable, &path.to_string(), &what))?;
        self.set.insert(path, setting);
        Ok(())
    }

    /// The variable behind a key, or behind a part of it.
    fn variable(&self, path: &KeyPath) -> Option<&str> {
        let deepest = self.set.iter().filter(|(set, _)| !path.0.is_empty() && set.meets(path));
        deepest.max_by_key(|(set, _)| set.0.len()).map(|(_, setting)| setting.variable.as_str())
    }

    /// A fault of a key, with the variable behind it.
    pub(super) fn fault(&self, path: &KeyPath, what: impl Into<String>) -> Fault {
        Fault { key: path.to_string(), what: what.into(), variable: self.variable(path).map(str::to_owned) }
    }

    /// The same fault, with the variable behind its key.
    pub(super) fn with_variable(&self, fault: Fault) -> Fault {
        let variable = self.variable(&KeyPath::keys(&fault.key)).map(str::to_owned);
        Fault { variable, ..fault }
    }

    /// Puts the variable's plain text where its TOML reading did not fit; `false` if that was tried before.
    ///
    /// So `FALGATE__TELEMETRY__LEVEL=1` is the text `1` if the key takes text.
    pub(super) fn retry_as_text(&mut self, path: &KeyPath, root: &mut Table) -> bool {
        let Some(setting) = self.set.get(path) else { return false };
        match path.find_mut(root) {
            Some(value) if !value.is_str() && !value.is_array() && !value.is_table() => {
                *value = Value::String(setting.text.clone());
                true
            }
            _ => false,
        }
    }
}

/// `FALGATE__GUARD__KEYS__ENV` names `guard.keys.env`.
fn key_path(variable: &str) -> Option<KeyPath> {
    let steps: Vec<Step> =
        variable.strip_prefix(SETTING_PREFIX)?.split("__").map(|part| Step::Key(part.to_ascii_lowercase())).collect();
    let whole = steps.iter().all(|step| matches!(step, Step::Key(key) if !key.is_empty()));
    whole.then_some(KeyPath(steps))
}

fn fault(variable: &str, key: &str, what: &str) -> Fault {
    Fault { key: key.to_owned(), what: what.to_owned(), variable: Some(variable.to_owned()) }
}

fn place(root: &mut Table, path: &KeyPath, value: Value) -> Result<(), String> {
    let mut table = root;
    let mut walked = KeyPath::default();
    let (last, before) = path.0.split_last().ok_or("the variable names no key")?;
    for step in before {
        let Step::Key(key) = step else { return Err("the variable names no key".to_owned()) };
        walked = walked.key(key);
        table = match table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => inner,
            Value::Array(_) => return Err(format!("`{walked}` is a list: set it as a whole, in TOML's brackets")),
            _ => return Err(format!("`{walked}` is a value and has no keys")),
        };
    }
    if let Step::Key(key) = last {
        table.insert(key.clone(), value);
    }
    Ok(())
}
