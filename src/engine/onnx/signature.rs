//! What the four graphs take and give, decided by what they declare; published models agree on little else.

use super::super::Timesteps;
use super::{Dim, Element, ModelError, Port, Ports};

/// Latent channels of the model family.
pub(super) const CHANNELS: usize = 4;

/// A graph with one input: the text encoder and the two halves of the autoencoder.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plain {
    /// The input.
    pub(super) input: Port,
    /// The name of the output that is read.
    pub(super) output: String,
    /// The only batch that the graph takes, where it has one.
    pub(super) batch: Option<usize>,
}

/// How timesteps enter the UNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timestep {
    /// One number without dimensions for all rows.
    Scalar,
    /// A list of one for all rows.
    One,
    /// One number a row.
    PerRow,
}

impl Timestep {
    /// Which rows may share a call.
    pub(super) const fn sharing(self) -> Timesteps {
        match self {
            Self::Scalar | Self::One => Timesteps::Shared,
            Self::PerRow => Timesteps::PerRow,
        }
    }
}

/// The UNet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unet {
    /// Element type of `sample`.
    pub(super) sample: Element,
    /// Element type of `encoder_hidden_states`.
    pub(super) text: Element,
    /// Width of `encoder_hidden_states`, where it is fixed.
    pub(super) text_width: Option<usize>,
    /// How timesteps enter, and as what.
    pub(super) timestep: (Timestep, Element),
    /// Element type and width of `timestep_cond`; `None` for a model without guidance.
    pub(super) guidance: Option<(Element, Option<usize>)>,
    /// The name of the output.
    pub(super) output: String,
    /// The only batch that the graph takes, where it has one.
    pub(super) batch: Option<usize>,
}

/// Refuses a part.
fn unfit<T>(part: &'static str, why: impl Into<String>) -> Result<T, ModelError> {
    Err(ModelError::Unfit { part, why: why.into() })
}

/// Finds the one input that the graph must have and no other.
fn only_input<'a>(part: &'static str, ports: &'a Ports, name: &str, rank: usize) -> Result<&'a Port, ModelError> {
    let input = match ports.inputs.as_slice() {
        [only] => only,
        several => {
            let foreign = several.iter().find(|port| port.name != name);
            let named = several.iter().find(|port| port.name == name);
            return match (named, foreign) {
                (Some(_), Some(port)) => unfit(part, format!("it also wants {} {}", port.name, port.shape())),
                _ => unfit(part, format!("it has no input {name}")),
            };
        }
    };
    if input.dims.len() != rank {
        return unfit(part, format!("{} has the shape {}, not {rank} dimensions", input.name, input.shape()));
    }
    Ok(input)
}

/// Finds an output by name, or takes the only one.
fn output<'a>(part: &'static str, ports: &'a Ports, names: &[&str]) -> Result<&'a Port, ModelError> {
    let found = ports.outputs.iter().find(|port| names.contains(&port.name.as_str()));
    let port = match (found, ports.outputs.as_slice()) {
        (Some(port), _) | (None, [port]) => port,
        _ => return unfit(part, format!("it has no output {}", names.join(" or "))),
    };
    if port.is_float() { Ok(port) } else { unfit(part, format!("{} holds {}", port.name, port.element)) }
}

/// Refuses elements other than floats.
fn float(part: &'static str, port: &Port) -> Result<Element, ModelError> {
    if port.is_float() {
        Ok(port.element.clone())
    } else {
        unfit(part, format!("{} wants {}", port.name, port.element))
    }
}

/// Refuses a picture or latent input whose channels differ or whose sides are fixed.
fn planes(part: &'static str, port: &Port, channels: usize) -> Result<(), ModelError> {
    if port.dims.get(1).and_then(Dim::fixed).is_some_and(|declared| declared != channels) {
        return unfit(part, format!("{} has the shape {}, not {channels} channels", port.name, port.shape()));
    }
    if port.dims[2..].iter().any(|dim| dim.fixed().is_some()) {
        return unfit(part, format!("{} takes {} only; export it with dynamic axes", port.name, port.shape()));
    }
    Ok(())
}

/// The text encoder: `input_ids` → `last_hidden_state`.
///
/// # Errors
/// [`ModelError::Unfit`] with the name and shape that do not fit.
pub(super) fn text_encoder(ports: &Ports, tokens: usize) -> Result<Plain, ModelError> {
    let part = "text_encoder";
    let input = only_input(part, ports, "input_ids", 2)?;
    if !matches!(input.element, Element::Int64 | Element::Int32) {
        return unfit(part, format!("{} wants {}", input.name, input.element));
    }
    if input.dims[1].fixed().is_some_and(|declared| declared != tokens) {
        return unfit(part, format!("{} has the shape {}, not {tokens} tokens", input.name, input.shape()));
    }
    let output = ports.outputs.iter().find(|port| port.name == "last_hidden_state");
    let Some(output) = output else { return unfit(part, "it has no output last_hidden_state") };
    if !output.is_float() || output.dims.len() != 3 {
        return unfit(part, format!("{} is {} {}", output.name, output.element, output.shape()));
    }
    Ok(Plain { input: input.clone(), output: output.name.clone(), batch: input.dims[0].fixed() })
}

/// The encoder: a picture → moments (8 channels) or latents (4 channels).
///
/// # Errors
/// [`ModelError::Unfit`] with the name and shape that do not fit.
pub(super) fn vae_encoder(ports: &Ports) -> Result<Plain, ModelError> {
    let part = "vae_encoder";
    let input = only_input(part, ports, "sample", 4)?;
    float(part, input)?;
    planes(part, input, 3)?;
    let output = output(part, ports, &["latent_parameters", "latent_sample", "latents"])?;
    if let Some(channels) = output.dims.get(1).and_then(Dim::fixed)
        && ![CHANNELS, 2 * CHANNELS].contains(&channels)
    {
        return unfit(part, format!("{} has the shape {}, not 4 or 8 channels", output.name, output.shape()));
    }
    Ok(Plain { input: input.clone(), output: output.name.clone(), batch: input.dims[0].fixed() })
}

/// The decoder: latents → a picture.
///
/// # Errors
/// [`ModelError::Unfit`] with the name and shape that do not fit.
pub(super) fn vae_decoder(ports: &Ports) -> Result<Plain, ModelError> {
    let part = "vae_decoder";
    let input = only_input(part, ports, "latent_sample", 4)?;
    float(part, input)?;
    planes(part, input, CHANNELS)?;
    let output = output(part, ports, &["sample"])?;
    Ok(Plain { input: input.clone(), output: output.name.clone(), batch: input.dims[0].fixed() })
}

/// The UNet: `sample`, `timestep`, `encoder_hidden_states` and perhaps `timestep_cond` → `out_sample`.
///
/// # Errors
/// [`ModelError::Unfit`] with the name and shape that do not fit; inputs of other model families by their name.
pub(super) fn unet(ports: &Ports) -> Result<Unet, ModelError> {
    let part = "unet";
    let known = ["sample", "timestep", "encoder_hidden_states", "timestep_cond"];
    if let Some(port) = ports.inputs.iter().find(|port| !known.contains(&port.name.as_str())) {
        let family = if ["text_embeds", "time_ids"].contains(&port.name.as_str()) { ", as SDXL models do" } else { "" };
        return unfit(part, format!("it also wants {} {}{family}", port.name, port.shape()));
    }
    let find = |name: &str| ports.inputs.iter().find(|port| port.name == name);
    let need = |name: &str, rank: usize| match find(name) {
        Some(port) if port.dims.len() == rank => Ok(port),
        Some(port) => unfit(part, format!("{name} has the shape {}, not {rank} dimensions", port.shape())),
        None => unfit(part, format!("it has no input {name}")),
    };
    let sample = need("sample", 4)?;
    planes(part, sample, CHANNELS)?;
    let text = need("encoder_hidden_states", 3)?;
    let Some(timestep) = find("timestep") else { return unfit(part, "it has no input timestep") };
    let guidance = match find("timestep_cond") {
        Some(port) if port.dims.len() == 2 => Some((float(part, port)?, port.dims[1].fixed())),
        Some(port) => return unfit(part, format!("timestep_cond has the shape {}", port.shape())),
        None => None,
    };
    Ok(Unet {
        sample: float(part, sample)?,
        text: float(part, text)?,
        text_width: text.dims[2].fixed(),
        timestep: (timesteps(timestep, &sample.dims[0])?, timestep.element.clone()),
        guidance,
        output: output(part, ports, &["out_sample"])?.name.clone(),
        batch: sample.dims[0].fixed(),
    })
}

/// How timesteps enter: a list that is named or as long as the batch takes one a row.
fn timesteps(port: &Port, batch: &Dim) -> Result<Timestep, ModelError> {
    if matches!(port.element, Element::Other(_)) {
        return unfit("unet", format!("timestep wants {}", port.element));
    }
    match port.dims.as_slice() {
        [] => Ok(Timestep::Scalar),
        [Dim::Fixed(1)] => Ok(Timestep::One),
        [dim @ Dim::Named(name)] if name == "batch_size" || (dim == batch && !name.is_empty()) => Ok(Timestep::PerRow),
        [Dim::Named(_)] => Ok(Timestep::One),
        [dim] if dim == batch => Ok(Timestep::PerRow),
        _ => unfit("unet", format!("timestep has the shape {}", port.shape())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, element: Element, dims: &[&str]) -> Port {
        let dim = |dim: &&str| dim.parse().map_or_else(|_| Dim::Named((*dim).to_owned()), Dim::Fixed);
        Port { name: name.to_owned(), element, dims: dims.iter().map(dim).collect() }
    }

    fn unet_with(timestep: Port, more: &[Port]) -> Ports {
        let mut inputs = vec![
            port("sample", Element::Float32, &["batch_size", "4", "height", "width"]),
            timestep,
            port("encoder_hidden_states", Element::Float32, &["batch_size", "sequence_length", "768"]),
        ];
        inputs.extend_from_slice(more);
        let outputs = vec![port("out_sample", Element::Float32, &["batch_size", "4", "height", "width"])];
        Ports { inputs, outputs }
    }

    #[test]
    fn timesteps_enter_as_the_graph_declares_them() {
        for (dims, want) in [
            (&[][..], Timestep::Scalar),
            (&["1"], Timestep::One),
            (&["steps"], Timestep::One),
            (&[""], Timestep::One),
            (&["batch_size"], Timestep::PerRow),
        ] {
            for element in [Element::Float32, Element::Float16, Element::Int64] {
                let unet = unet(&unet_with(port("timestep", element.clone(), dims), &[])).unwrap();
                assert_eq!(unet.timestep, (want, element));
            }
        }
        let error = unet(&unet_with(port("timestep", Element::Int64, &["3"]), &[])).unwrap_err();
        assert_eq!(error.to_string(), "unet cannot serve: timestep has the shape [3]");
    }

    #[test]
    fn guidance_is_there_only_where_the_graph_has_it() {
        let timestep = || port("timestep", Element::Int64, &["1"]);
        assert_eq!(unet(&unet_with(timestep(), &[])).unwrap().guidance, None);
        let cond = port("timestep_cond", Element::Float16, &["batch_size", "256"]);
        assert_eq!(unet(&unet_with(timestep(), &[cond])).unwrap().guidance, Some((Element::Float16, Some(256))));
    }

    #[test]
    fn inputs_of_other_families_are_refused_by_name() {
        let more = [port("text_embeds", Element::Float32, &["batch_size", "1280"])];
        let error = unet(&unet_with(port("timestep", Element::Int64, &[]), &more)).unwrap_err();
        let want = "unet cannot serve: it also wants text_embeds [batch_size, 1280], as SDXL models do";
        assert_eq!(error.to_string(), want);
        let more = [port("image_embeds", Element::Float32, &["batch_size", "1"])];
        assert!(unet(&unet_with(port("timestep", Element::Int64, &[]), &more)).is_err());
    }

    #[test]
    fn fixed_sizes_and_foreign_channels_are_refused() {
        let mut ports = unet_with(port("timestep", Element::Int64, &[]), &[]);
        ports.inputs[0] = port("sample", Element::Float32, &["1", "4", "64", "64"]);
        let error = unet(&ports).unwrap_err().to_string();
        assert_eq!(error, "unet cannot serve: sample takes [1, 4, 64, 64] only; export it with dynamic axes");
        ports.inputs[0] = port("sample", Element::Float32, &["batch_size", "9", "height", "width"]);
        assert!(unet(&ports).unwrap_err().to_string().ends_with("[batch_size, 9, height, width], not 4 channels"));
        ports.inputs[0] = port("sample", Element::Float32, &["2", "4", "height", "width"]);
        assert_eq!(unet(&ports).unwrap().batch, Some(2));
    }

    #[test]
    fn encoders_give_moments_or_latents_under_any_name() {
        for (name, channels) in [("latent_parameters", "8"), ("latent_sample", "4"), ("x", "channels")] {
            let ports = Ports {
                inputs: vec![port("sample", Element::Float16, &["batch_size", "3", "h", "w"])],
                outputs: vec![port(name, Element::Float16, &["batch_size", channels, "h8", "w8"])],
            };
            assert_eq!(vae_encoder(&ports).unwrap().output, name);
        }
    }

    #[test]
    fn a_text_encoder_gives_its_last_hidden_state_and_wants_ids_alone() {
        let outputs = vec![port("pooler_output", Element::Float32, &["batch_size", "768"])];
        let mut ports = Ports { inputs: vec![port("input_ids", Element::Int32, &["batch_size", "77"])], outputs };
        let error = text_encoder(&ports, 77).unwrap_err();
        assert_eq!(error.to_string(), "text_encoder cannot serve: it has no output last_hidden_state");
        ports.outputs.push(port("last_hidden_state", Element::Float32, &["batch_size", "77", "768"]));
        assert_eq!(text_encoder(&ports, 77).unwrap().batch, None);
        ports.inputs.push(port("attention_mask", Element::Int64, &["batch_size", "77"]));
        let error = text_encoder(&ports, 77).unwrap_err();
        assert_eq!(error.to_string(), "text_encoder cannot serve: it also wants attention_mask [batch_size, 77]");
    }
}
