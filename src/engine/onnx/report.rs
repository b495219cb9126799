//! An inspection as people read it.

use std::fmt;

use super::{Check, Inspection, ManifestReport, PartReport};

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model     {}", self.folder.display())?;
        match &self.library {
            Some(library) => writeln!(f, "runtime   {}", library.display())?,
            None => writeln!(f, "runtime   not loaded: inputs and outputs are not shown")?,
        }
        if !self.parts.is_empty() {
            writeln!(f, "tokenizer {}", if self.tokenizer { "CLIP" } else { "not readable" })?;
        }
        if let Some(manifest) = &self.manifest {
            manifest_lines(f, manifest)?;
        }
        for part in &self.parts {
            part_lines(f, part)?;
        }
        if !self.settings.is_empty() {
            writeln!(f, "\nsettings")?;
        }
        let width = self.settings.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in &self.settings {
            writeln!(f, "  {name:width$}  {value}")?;
        }
        if !self.missing.is_empty() {
            writeln!(f, "\nmissing")?;
        }
        for name in &self.missing {
            writeln!(f, "  {name}")?;
        }
        if !self.problems.is_empty() {
            writeln!(f, "\nproblems")?;
        }
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        let verdict = match (self.serves, self.is_sound()) {
            (true, _) => "This model would serve.",
            (false, true) => "This model would serve with the provider cuda, and with no other.",
            (false, false) => "This model would not serve.",
        };
        write!(f, "\n{verdict}")
    }
}

/// What the model tools wrote down.
fn manifest_lines(f: &mut fmt::Formatter<'_>, manifest: &ManifestReport) -> fmt::Result {
    let ManifestReport { variant, precision, autoencoder, .. } = manifest;
    writeln!(f, "variant   {variant}: {precision}, {autoencoder} autoencoder, made for {}", manifest.provider)?;
    writeln!(f, "source    {}", manifest.source)?;
    writeln!(f, "licence   {}", manifest.licence)?;
    for check in &manifest.checks {
        let Check { what, deviation, tolerance, unit } = check;
        writeln!(f, "checked   {what}: off by {deviation:.1e} {unit}, {tolerance:.0e} allowed")?;
    }
    for note in &manifest.notes {
        writeln!(f, "note      {note}")?;
    }
    let how = if manifest.hashed { "sizes and hashes" } else { "sizes" };
    match manifest.differs.len() {
        0 => writeln!(f, "files     {} as listed, by their {how}", manifest.files),
        some => writeln!(f, "files     {some} of {} differ from the manifest", manifest.files),
    }
}

/// A part: its size, then its inputs and outputs in columns.
fn part_lines(f: &mut fmt::Formatter<'_>, part: &PartReport) -> fmt::Result {
    write!(f, "\n{:14}", part.part)?;
    match part.bytes {
        0 => write!(f, "not there")?,
        bytes => write!(f, "{}", megabytes(bytes))?,
    }
    if let Some(parameters) = part.parameters {
        write!(f, ", about {:.1} M parameters", parameters as f64 / 1e6)?;
    }
    writeln!(f)?;
    let Some(ports) = &part.ports else { return Ok(()) };
    let all = || ports.inputs.iter().map(|port| ("in", port)).chain(ports.outputs.iter().map(|port| ("out", port)));
    let name = all().map(|(_, port)| port.name.len()).max().unwrap_or_default();
    let element = all().map(|(_, port)| port.element.to_string().len()).max().unwrap_or_default();
    for (way, port) in all() {
        let (kind, shape) = (port.element.to_string(), port.shape());
        writeln!(f, "  {way:3}  {:name$}  {kind:element$}  rank {}  {shape}", port.name, port.dims.len())?;
    }
    Ok(())
}

/// Bytes as people count them.
fn megabytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes < 1e9 { format!("{:.1} MB", bytes / 1e6) } else { format!("{:.2} GB", bytes / 1e9) }
}
