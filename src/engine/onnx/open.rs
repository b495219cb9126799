//! From a folder to a backend that serves, or one sentence why not.

use std::time::{Duration, Instant};

use super::super::{ClipTokenizer, Picture};
use super::folder::Folder;
use super::session::{Part, Purpose};
use super::{Dim, LibraryPlaces, ModelError, OnnxBackend, OnnxSettings, Runtime, inspect, provider, signature, vocabulary};

/// A model that is ready to run.
#[derive(Debug)]
pub struct Opened {
    /// The four graphs.
    pub backend: OnnxBackend,
    /// The model's tokenizer.
    pub tokenizer: ClipTokenizer,
}

/// A part that is being opened, or has been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loading {
    /// The part's name.
    pub part: &'static str,
    /// Its size on disk in bytes: the graph and its weights.
    pub bytes: u64,
    /// How long it took; `None` when it begins.
    pub took: Option<Duration>,
}

/// Opens a model: finds and loads the runtime, reads the folder, opens the four graphs and checks what they declare.
///
/// `progress` hears each part begin and end.
///
/// # Errors
/// [`ModelError`] with the reason why this model cannot serve on this device.
pub fn open(
    settings: &OnnxSettings,
    places: &LibraryPlaces,
    progress: &mut dyn FnMut(Loading),
) -> Result<Opened, ModelError> {
    let folder = Folder::read(&settings.model)?;
    let tokenizer = vocabulary::read(&folder.path, folder.prompt_tokens)?;
    let providers = provider::prepare(settings)?;
    let runtime = Runtime::load(places, settings.threads)?;
    let mut part = |name: &'static str| {
        let path = folder.graph(name);
        let bytes = inspect::bytes_of(&folder.path.join(name));
        progress(Loading { part: name, bytes, took: None });
        let begin = Instant::now();
        let part = Part::open(&runtime, &providers, (name, &path), Purpose::Serve)?;
        progress(Loading { part: name, bytes, took: Some(begin.elapsed()) });
        Ok::<_, ModelError>(part)
    };
    let text = part("text_encoder")?;
    let text_signature = signature::text_encoder(&text.ports(), folder.prompt_tokens)?;
    let encoder = part("vae_encoder")?;
    let encoder_signature = signature::vae_encoder(&encoder.ports())?;
    let unet = part("unet")?;
    let unet_signature = signature::unet(&unet.ports())?;
    let decoder = part("vae_decoder")?;
    let decoder_signature = signature::vae_decoder(&decoder.ports())?;
    let guidance = agree(&folder, &unet_signature)?;
    let mut backend = OnnxBackend {
        facts: folder.facts(guidance, settings.max_batch.get(), provider::device(settings)),
        text: (text, text_signature),
        encoder: (encoder, encoder_signature, folder.encode_scale),
        unet: (unet, unet_signature),
        decoder: (decoder, decoder_signature, folder.decode_scale),
    };
    warn_of_own_noise(&mut backend);
    Ok(Opened { backend, tokenizer })
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
