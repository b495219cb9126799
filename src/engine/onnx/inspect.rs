//! What a model folder holds and whether it would serve, without serving it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::checker;
use super::folder::{self, Folder, PARTS};
use super::session::{FOR_CUDA, Part, Purpose};
use super::{
    Compare, LibraryPlaces, ManifestReport, ModelError, Ports, Runtime, manifest, open, signature, vocabulary,
};

/// What was found in a model folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The folder.
    pub folder: PathBuf,
    /// Whether the engine would serve it on the CPU: nothing is missing and nothing is refused.
    pub serves: bool,
    /// Whether only the provider `cuda` can run it: its graphs have operators that the CPU lacks. Not opened, they are judged by
    /// what the manifest says of them.
    pub needs_cuda: bool,
    /// Why not, one sentence each.
    pub problems: Vec<String>,
    /// Files that are missing, relative to the folder.
    pub missing: Vec<String>,
    /// The runtime library that read the graphs; `None` if there was none, and the graphs were not read.
    pub library: Option<PathBuf>,
    /// The four parts in the order in which they run, then the safety checker where there is one.
    pub parts: Vec<PartReport>,
    /// Settings that the engine would use, by name.
    pub settings: Vec<(&'static str, String)>,
    /// Entries of the vocabulary are readable as CLIP's.
    pub tokenizer: bool,
    /// What the model tools wrote down; `None` for a folder that they did not make.
    pub manifest: Option<ManifestReport>,
}

impl Inspection {
    /// Whether nothing is wrong with the folder, whatever device it is for.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.missing.is_empty()
    }
}

/// One part of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartReport {
    /// Its name.
    pub part: &'static str,
    /// Size on disk in bytes, the graph and its weights; zero if it is not there.
    pub bytes: u64,
    /// About how many parameters that is, from the element type of the first input of floats.
    pub parameters: Option<u64>,
    /// What the graph declares, if it could be read.
    pub ports: Option<Ports>,
}

/// Inspects a folder. Always answers: what cannot be read is among the problems.
#[must_use]
pub fn inspect(folder: &Path, places: &LibraryPlaces, compare: Compare) -> Inspection {
    let mut report = Inspection {
        folder: folder.to_owned(),
        serves: false,
        needs_cuda: false,
        problems: Vec::new(),
        missing: Vec::new(),
        library: None,
        parts: Vec::new(),
        settings: Vec::new(),
        tokenizer: false,
        manifest: None,
    };
    if !folder.is_dir() {
        report.problems.push(ModelError::NoFolder { path: folder.to_owned() }.to_string());
        return report;
    }
    let mut problems = Vec::new();
    let mut keep = |result: Result<(), ModelError>| {
        if let Err(error) = result {
            let text = error.to_string();
            if !problems.contains(&text) {
                problems.push(text);
            }
        }
    };
    keep(folder::refuse_other_kinds(folder));
    report.missing = folder::missing(folder);
    report.manifest = manifest::manifest(folder, compare).map_err(|error| keep(Err(error))).ok().flatten();
    let configured = Folder::configured(folder).map_err(|error| keep(Err(error))).ok();
    if let Some(configured) = &configured {
        report.settings = settings(configured);
        report.settings.push(("safety checker", safety(folder)));
    }
    let tokens = configured.as_ref().map_or(77, |configured| configured.prompt_tokens);
    if !report.missing.iter().any(|name| name.starts_with("tokenizer/")) {
        let tokenizer = vocabulary::read(folder, tokens).map(drop);
        report.tokenizer = tokenizer.is_ok();
        keep(tokenizer);
    }
    let runtime = Runtime::load(places, None).map_err(|error| keep(Err(error.into()))).ok();
    report.library = runtime.as_ref().map(|runtime| runtime.path().to_owned());
    let judge = checker::has_safety_checker(folder).then_some(checker::PART);
    for part in PARTS.into_iter().chain(judge) {
        let path = folder.join(part).join("model.onnx");
        let mut ports = None;
        if let (Some(runtime), true) = (&runtime, path.is_file()) {
            match Part::open(runtime, &[], (part, &path), Purpose::Look) {
                Ok(open) => ports = Some(open.ports()),
                Err(ModelError::Open { why, .. }) if why == FOR_CUDA => {
                    report.needs_cuda = true;
                    ports = report.manifest.as_ref().and_then(|manifest| manifest.ports.get(part)).cloned();
                }
                Err(error) => keep(Err(error)),
            }
        }
        if let Some(ports) = &ports {
            keep(fits((folder, part), ports, tokens, configured.as_ref()));
        }
        let bytes = bytes_of(&folder.join(part));
        let parameters = ports.as_ref().and_then(|ports| parameters(ports, bytes));
        report.parts.push(PartReport { part, bytes, parameters, ports });
    }
    let differs = report.manifest.iter().flat_map(|manifest| &manifest.differs);
    problems.extend(differs.map(|what| format!("the manifest disagrees: {what}")));
    report.problems = problems;
    report.serves = report.is_sound() && !report.needs_cuda;
    report
}

/// Checks one part as opening the model would.
fn fits((path, part): (&Path, &str), ports: &Ports, tokens: usize, folder: Option<&Folder>) -> Result<(), ModelError> {
    match part {
        checker::PART => checker::fits(path, ports),
        "text_encoder" => signature::text_encoder(ports, tokens).map(drop),
        "vae_encoder" => signature::vae_encoder(ports).map(drop),
        "vae_decoder" => signature::vae_decoder(ports).map(drop),
        _ => {
            let unet = signature::unet(ports)?;
            folder.map_or(Ok(()), |folder| open::agree(folder, &unet).map(drop))
        }
    }
}

/// What becomes of requests that want their pictures checked.
fn safety(folder: &Path) -> String {
    let place = folder.join(checker::PART);
    match (checker::has_safety_checker(folder), place.is_dir()) {
        (true, _) => "flagged pictures become black".to_owned(),
        (false, true) => "none: safety_checker has no model.onnx; export it with models/tools/convert.py".to_owned(),
        (false, false) => "none: host.without_safety_checker decides about requests that want one".to_owned(),
    }
}

/// Bytes of a part: its graph and the weights beside it.
pub(super) fn bytes_of(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter(|file| !file.file_name().to_string_lossy().ends_with(".json"))
        .filter_map(|file| file.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}

/// About how many parameters take these bytes.
fn parameters(ports: &Ports, bytes: u64) -> Option<u64> {
    let float = ports.inputs.iter().chain(&ports.outputs).find(|port| port.is_float())?;
    Some(bytes / if float.element == super::Element::Float16 { 2 } else { 4 })
}

/// The settings that the engine would use.
fn settings(folder: &Folder) -> Vec<(&'static str, String)> {
    let no_guidance = || "none: guidance_scale has no effect".to_owned();
    let or_none = |width: Option<usize>| width.map_or_else(|| "none".to_owned(), |width| width.to_string());
    let schedule = &folder.schedule;
    vec![
        ("sides a multiple of", format!("{} px", folder.size_multiple)),
        ("pixels per latent unit", folder.latent_factor.to_string()),
        ("prompt tokens", folder.prompt_tokens.to_string()),
        ("text width", or_none(folder.text_width)),
        ("guidance width", folder.guidance_width.map_or_else(no_guidance, |width| width.to_string())),
        ("scaling factor", format!("{} / {}", folder.encode_scale, folder.decode_scale)),
        ("prediction", format!("{:?}", schedule.prediction).to_lowercase()),
        ("training steps", schedule.train_timesteps.to_string()),
        ("original steps", schedule.original_steps.to_string()),
        ("beta", format!("{} to {}, scaled_linear", schedule.beta_start, schedule.beta_end)),
        ("timestep scaling", schedule.timestep_scaling.to_string()),
    ]
}
