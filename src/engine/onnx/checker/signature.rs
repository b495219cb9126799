//! What a safety checker's graph takes and gives, decided by what it declares.

use super::PART;
use crate::engine::onnx::{Dim, Element, ModelError, Port, Ports};

/// A safety checker: prepared pictures, and perhaps the pictures as they are, to one verdict each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checker {
    /// The prepared pictures, `[batch, 3, side, side]`.
    pub(super) clip_input: Port,
    /// The pictures that the graph would blacken itself, where it wants them. The engine does that, and hands in blank ones.
    pub(super) images: Option<Images>,
    /// The name of the output with the verdicts.
    pub(super) output: String,
    /// The only batch that the graph takes, where it has one.
    pub(super) batch: Option<usize>,
}

/// The second input of published graphs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Images {
    /// Its name.
    pub(super) name: String,
    /// Its element type.
    pub(super) element: Element,
    /// The sides of the smallest picture that it takes.
    sides: [usize; 2],
    /// The channels, where they are fixed.
    channels: Option<usize>,
}

impl Images {
    /// The smallest blank pictures that the graph takes beside so many prepared ones.
    ///
    /// Published graphs lay their verdicts over the last dimension of the pictures instead of the first, which fails for more
    /// than one unless both are as long; diffusers' own pipeline calls them picture by picture for that.
    pub(super) fn shape(&self, rows: usize) -> [usize; 4] {
        [rows, self.sides[0], self.sides[1], self.channels.unwrap_or(rows)]
    }
}

fn unfit<T>(why: String) -> Result<T, ModelError> {
    Err(ModelError::Unfit { part: PART, why })
}

/// Reads a safety checker's ports. `side`: what pictures are prepared to.
///
/// # Errors
/// [`ModelError::Unfit`] with the name and shape that do not fit.
pub(super) fn checker(ports: &Ports, side: u32) -> Result<Checker, ModelError> {
    let clip_input = clip_input(ports)?;
    if !clip_input.is_float() {
        return unfit(format!("{} wants {}", clip_input.name, clip_input.element));
    }
    let wanted = [None, Some(3), Some(side as usize), Some(side as usize)];
    let fits = clip_input.dims.iter().zip(wanted).all(|(dim, wanted)| match (dim.fixed(), wanted) {
        (Some(declared), Some(wanted)) => declared == wanted,
        _ => true,
    });
    if !fits {
        let (name, shape) = (&clip_input.name, clip_input.shape());
        return unfit(format!("{name} takes {shape}, and feature_extractor prepares 3 planes of {side}x{side} pixels"));
    }
    let images = match ports.inputs.iter().find(|port| port.name != clip_input.name) {
        None => None,
        Some(port) => Some(images(port)?),
    };
    if let Some(third) = ports.inputs.iter().filter(|port| port.name != clip_input.name).nth(1) {
        return unfit(format!("it also wants {} {}", third.name, third.shape()));
    }
    // Where channels are fixed, verdicts may be laid over them, so that only one picture goes at a time.
    let alone = images.as_ref().is_some_and(|images| images.channels.is_some()).then_some(1);
    Ok(Checker {
        output: verdicts(ports)?.name.clone(),
        batch: clip_input.dims.first().and_then(Dim::fixed).or(alone),
        clip_input: clip_input.clone(),
        images,
    })
}

/// The prepared pictures: the only input, or the one that is called so or has channels before sides.
fn clip_input(ports: &Ports) -> Result<&Port, ModelError> {
    let channels_first = |port: &&Port| port.dims.get(1).and_then(Dim::fixed) == Some(3);
    let named = |port: &&Port| ["clip_input", "pixel_values"].contains(&port.name.as_str());
    let found = match ports.inputs.as_slice() {
        [only] => Some(only),
        several => several.iter().find(named).or_else(|| several.iter().find(channels_first)),
    };
    match found {
        Some(port) if port.dims.len() == 4 => Ok(port),
        Some(port) => unfit(format!("{} has the shape {}, not 4 dimensions", port.name, port.shape())),
        None => unfit("it has no input clip_input".to_owned()),
    }
}

fn images(port: &Port) -> Result<Images, ModelError> {
    if port.dims.len() != 4 || !port.is_float() {
        return unfit(format!("it also wants {} {}, {}", port.name, port.shape(), port.element));
    }
    let side = |dim: usize| port.dims[dim].fixed().unwrap_or(1);
    let (sides, channels) = ([side(1), side(2)], port.dims[3].fixed());
    Ok(Images { name: port.name.clone(), element: port.element.clone(), sides, channels })
}

/// The output with the verdicts: the only one of booleans.
fn verdicts(ports: &Ports) -> Result<&Port, ModelError> {
    let is_bool = |port: &&Port| matches!(&port.element, Element::Other(name) if name == "bool");
    let mut found = ports.outputs.iter().filter(is_bool);
    match (found.next(), found.next()) {
        (Some(port), None) if port.dims.len() <= 1 => Ok(port),
        (Some(port), None) => unfit(format!("{} has the shape {}, not one verdict a picture", port.name, port.shape())),
        (Some(first), Some(second)) => unfit(format!("both {} and {} hold bool", first.name, second.name)),
        (None, _) => {
            let given: Vec<String> =
                ports.outputs.iter().map(|port| format!("{} ({})", port.name, port.element)).collect();
            unfit(format!("it has no output of bool such as has_nsfw_concepts, only {}", given.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, element: &str, dims: &[&str]) -> Port {
        let dim = |dim: &&str| dim.parse().map_or_else(|_| Dim::Named((*dim).to_owned()), Dim::Fixed);
        let element = match element {
            "float32" => Element::Float32,
            "float16" => Element::Float16,
            other => Element::Other(other.to_owned()),
        };
        Port { name: name.to_owned(), element, dims: dims.iter().map(dim).collect() }
    }

    fn published() -> Ports {
        Ports {
            inputs: vec![
                port("clip_input", "float32", &["batch", "channels", "height", "width"]),
                port("images", "float32", &["batch", "height", "width", "channels"]),
            ],
            outputs: vec![
                port("out_images", "float32", &["batch", "height", "width", "channels"]),
                port("has_nsfw_concepts", "bool", &["batch"]),
            ],
        }
    }

    fn refused(ports: &Ports) -> String {
        checker(ports, 224).unwrap_err().to_string()
    }

    #[test]
    fn a_published_graph_gets_blank_pictures_beside_the_prepared_ones() {
        let read = checker(&published(), 224).unwrap();
        assert_eq!(
            (read.clip_input.name.as_str(), read.output.as_str(), read.batch),
            ("clip_input", "has_nsfw_concepts", None)
        );
        assert_eq!(read.images.unwrap().shape(5), [5, 1, 1, 5]);
    }

    #[test]
    fn inputs_of_any_names_are_told_apart_by_their_shapes() {
        let mut ports = published();
        ports.inputs[0] = port("x", "float16", &["2", "3", "224", "224"]);
        ports.inputs[1] = port("y", "float16", &["2", "512", "512", "3"]);
        ports.inputs.reverse();
        let read = checker(&ports, 224).unwrap();
        assert_eq!((read.clip_input.name.as_str(), read.batch), ("x", Some(2)));
        assert_eq!(read.images.unwrap().shape(2), [2, 512, 512, 3]);
        ports.inputs.remove(0);
        assert_eq!(checker(&ports, 224).unwrap().images, None, "a graph that only judges");
    }

    #[test]
    fn where_the_channels_of_the_pictures_are_fixed_they_go_one_by_one() {
        let mut ports = published();
        ports.inputs[1] = port("images", "float32", &["batch", "height", "width", "3"]);
        assert_eq!(checker(&ports, 224).unwrap().batch, Some(1));
    }

    #[test]
    fn a_graph_that_is_no_checker_is_refused_with_what_it_has() {
        let mut ports = published();
        ports.outputs.pop();
        let want = "safety_checker cannot serve: it has no output of bool such as has_nsfw_concepts, only out_images (float32)";
        assert_eq!(refused(&ports), want);
        let mut ports = published();
        ports.inputs[0] = port("clip_input", "float32", &["batch", "3", "336", "336"]);
        let want = "clip_input takes [batch, 3, 336, 336], and feature_extractor prepares 3 planes of 224x224 pixels";
        assert!(refused(&ports).ends_with(want));
        ports.inputs[0] = port("clip_input", "float32", &["batch", "768"]);
        assert!(refused(&ports).ends_with("clip_input has the shape [batch, 768], not 4 dimensions"));
        ports.inputs[0] = port("input_ids", "int64", &["batch", "77"]);
        assert!(refused(&ports).ends_with("it has no input clip_input"));
        let mut ports = published();
        ports.inputs.push(port("threshold", "float32", &[]));
        assert!(refused(&ports).ends_with("it also wants threshold []"));
        ports.inputs[1] = port("threshold", "float32", &[]);
        assert!(refused(&ports).ends_with("it also wants threshold [], float32"));
        let mut ports = published();
        ports.outputs.push(port("special", "bool", &["batch"]));
        assert!(refused(&ports).ends_with("both has_nsfw_concepts and special hold bool"));
        ports.outputs = vec![port("scores", "bool", &["batch", "17"])];
        assert!(refused(&ports).ends_with("scores has the shape [batch, 17], not one verdict a picture"));
    }
}
