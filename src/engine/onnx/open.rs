//! From a folder to a backend that serves, or one sentence why not.

use std::path::Path;
use std::time::Instant;

use super::super::{ClipTokenizer, EngineSettings, LoadProgress, OpenError, Opened, Picture, Provider, Timesteps};
use super::checker::{self, Checker};
use super::folder::Folder;
use super::session::{Part, Purpose};
use super::{
    Dim, Element, LibraryPlaces, ModelError, OnnxBackend, OnnxSettings, Runtime, inspect, provider, signature,
    vocabulary,
};

/// Opens the model of the engine's settings: the function that [`Engine::start`](super::super::Engine::start) wants.
///
/// The library is the one of the settings, else one of `places`.
///
/// ```no_run
/// use falgate::engine::onnx::{self, LibraryPlaces};
/// use falgate::engine::{Engine, EngineSettings};
///
/// let settings = EngineSettings { model: Some("models/demo".into()), ..EngineSettings::default() };
/// let caches = onnx::cached(&["target".into()], settings.provider);
/// let places = LibraryPlaces { caches, ..LibraryPlaces::default() };
/// let engine = Engine::start(settings.clone(), move |progress| onnx::open(&settings, &places, progress));
/// ```
///
/// # Errors
/// [`OpenError::Model`] with one sentence that names the file, the setting or the library at fault.
pub fn open(settings: &EngineSettings, places: &LibraryPlaces, progress: &LoadProgress) -> Result<Opened, OpenError> {
    let configured = settings.library.clone().or_else(|| places.configured.clone());
    let places = LibraryPlaces { configured, ..places.clone() };
    let opened = OnnxSettings::of(settings).and_then(|settings| OnnxBackend::open(&settings, &places, progress));
    match opened {
        Ok((backend, tokenizer)) => Ok(Opened { backend: Box::new(backend), tokenizer: Box::new(tokenizer) }),
        Err(error) => Err(OpenError::Model { what: error.to_string(), source: Box::new(error) }),
    }
}

/// Does all that [`open`] does before it opens the first graph: reads the folder, prepares the device, loads the runtime.
///
/// # Errors
/// [`ModelError`], as [`open`] would give it.
pub fn rehearse(settings: &EngineSettings, places: &LibraryPlaces) -> Result<(), ModelError> {
    let configured = settings.library.clone().or_else(|| places.configured.clone());
    let places = LibraryPlaces { configured, ..places.clone() };
    Before::read(&OnnxSettings::of(settings)?, &places).map(drop)
}

/// What there is before a graph is opened.
struct Before {
    folder: Folder,
    tokenizer: ClipTokenizer,
    providers: Vec<ort::ep::ExecutionProviderDispatch>,
    runtime: Runtime,
}

impl Before {
    fn read(settings: &OnnxSettings, places: &LibraryPlaces) -> Result<Self, ModelError> {
        let folder = Folder::read(&settings.model)?;
        let tokenizer = vocabulary::read(&folder.path, folder.prompt_tokens)?;
        let providers = provider::prepare(settings)?;
        let runtime = Runtime::load(places, settings.threads)?;
        Ok(Self { folder, tokenizer, providers, runtime })
    }
}

/// Reads the tokenizer of a model folder alone; no runtime is needed.
///
/// # Errors
/// [`ModelError`] if the folder's files are not a CLIP tokenizer's.
pub fn tokenizer(folder: &Path) -> Result<ClipTokenizer, ModelError> {
    let folder = Folder::configured(folder)?;
    vocabulary::read(&folder.path, folder.prompt_tokens)
}

impl OnnxBackend {
    /// Opens a model: reads its folder, finds and loads the runtime, opens its graphs and checks what they declare.
    ///
    /// # Errors
    /// [`ModelError`] with the reason why this model cannot serve on this device.
    pub fn open(
        settings: &OnnxSettings,
        places: &LibraryPlaces,
        progress: &LoadProgress,
    ) -> Result<(Self, ClipTokenizer), ModelError> {
        let Before { folder, tokenizer, providers, runtime } = Before::read(settings, places)?;
        let part = |name: &'static str| {
            let path = folder.graph(name);
            let bytes = inspect::bytes_of(&folder.path.join(name));
            progress.begin(name, bytes);
            let begin = Instant::now();
            let part = Part::open(&runtime, &providers, (name, &path), Purpose::Serve)?;
            progress.done(name, bytes, begin.elapsed());
            Ok::<_, ModelError>(part)
        };
        let text = part("text_encoder")?;
        let text_signature = signature::text_encoder(&text.ports(), folder.prompt_tokens)?;
        let encoder = part("vae_encoder")?;
        let encoder_signature = signature::vae_encoder(&encoder.ports())?;
        let unet = part("unet")?;
        let unet_signature = signature::unet(&unet.ports())?;
        let guidance = agree(&folder, &unet_signature)?;
        let timesteps = unet_signature.timestep.0.sharing();
        let decoder = part("vae_decoder")?;
        let decoder_signature = signature::vae_decoder(&decoder.ports())?;
        let checker = match checker::has_safety_checker(&folder.path) {
            true => Some(Checker::new(&folder.path, part(checker::PART)?)?),
            false => None,
        };
        let mut backend = Self {
            facts: folder.facts((guidance, timesteps), settings.max_batch.get(), provider::device(settings)),
            text: (text, text_signature),
            encoder: (encoder, encoder_signature, folder.encode_scale),
            unet: (unet, unet_signature),
            decoder: (decoder, decoder_signature, folder.decode_scale),
            checker,
        };
        if backend.facts.guidance_width.is_none() {
            tracing::info!(model = %backend.facts.name, "the unet has no timestep_cond: guidance_scale has no effect");
        }
        if timesteps == Timesteps::Shared {
            tracing::info!(
                model = %backend.facts.name,
                "the unet takes one timestep a call: only rows at equal timesteps share one; export timestep as a vector"
            );
        }
        if settings.provider == Provider::Cpu && backend.unet.1.sample == Element::Float16 {
            tracing::warn!(model = %backend.facts.name, "half precision is slower than single on the cpu");
        }
        if backend.checker.as_ref().is_some_and(Checker::is_half) {
            tracing::warn!(
                model = %backend.facts.name,
                "safety_checker computes in half precision, where an overflow passes for clean; models/tools makes it single"
            );
        }
        warn_of_own_noise(&mut backend);
        Ok((backend, tokenizer))
    }
}

/// Checks that the UNet fits what the folder says, and gives the width of its guidance embedding.
///
/// # Errors
/// [`ModelError::Unfit`] where the graph and the configuration disagree or neither says.
pub(super) fn agree(folder: &Folder, unet: &signature::Unet) -> Result<Option<usize>, ModelError> {
    let unfit = |why| Err(ModelError::Unfit { part: "unet", why });
    if let (Some(wants), Some(gives)) = (unet.text_width.or(folder.unet_text_width), folder.text_width)
        && wants != gives
    {
        return unfit(format!("it wants text of width {wants}, and the text encoder gives {gives}"));
    }
    let Some((_, declared)) = &unet.guidance else { return Ok(None) };
    match (declared, folder.guidance_width) {
        (Some(graph), Some(config)) if *graph != config => {
            unfit(format!("timestep_cond is {graph} wide, but time_cond_proj_dim is {config}"))
        }
        (Some(width), _) => Ok(Some(*width)),
        (None, Some(width)) => Ok(Some(width)),
        (None, None) => unfit("timestep_cond has no width, and time_cond_proj_dim is not said".to_owned()),
    }
}

/// Says once that an encoder draws noise inside its graph, as exports of old tools do: seeds do not repeat pictures then.
fn warn_of_own_noise(backend: &mut OnnxBackend) {
    let ports = backend.encoder.0.ports();
    let channels = ports.outputs.first().and_then(|port| port.dims.get(1)).and_then(Dim::fixed);
    if channels == Some(2 * signature::CHANNELS) {
        return;
    }
    let side = backend.facts.size_multiple;
    let grey = vec![128; side as usize * side as usize * 3];
    let Some(picture) = Picture::new(side, side, grey) else { return };
    let (first, second) = (backend.moments(&[&picture]), backend.moments(&[&picture]));
    if let (Ok(first), Ok(second)) = (first, second)
        && first != second
    {
        tracing::warn!(
            model = %backend.facts.name,
            "vae_encoder draws its own noise: one seed gives different pictures; export it again with a current tool"
        );
    }
}
