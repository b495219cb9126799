//! What the gate serves to browsers by itself.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::wire::EndpointId;

/// Sides that the page can draw at, in pixels.
const SIDES: std::ops::RangeInclusive<u32> = 64..=1024;
/// Steps that fal's endpoint takes.
const STEPS: std::ops::RangeInclusive<u32> = 1..=12;

/// The page at `/` and the browser shim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PlaygroundSettings {
    /// Serve the page at `/`. Whoever opens it draws with this gate, as far as the other settings let pages in.
    pub enabled: bool,
    /// Serve `/falgate.js`, which leads the sockets of unmodified fal clients to this gate. It holds no secret and opens
    /// nothing: whether a page's socket is let in is decided where it arrives.
    pub shim: bool,
    /// The endpoint that the page draws with. It takes `prompt`, `image_url`, `strength`, `seed` and
    /// `num_inference_steps`, as `fal-ai/lcm-sd15-i2i` does.
    pub endpoint: String,
    /// What the page asks for at first.
    pub prompt: String,
    /// Side of the square that the page sends, in pixels.
    pub side_px: NonZeroU32,
    /// Steps of each picture, 1 to 12. Fewer are faster.
    pub steps: NonZeroU32,
}

impl Default for PlaygroundSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            shim: true,
            endpoint: "fal-ai/lcm-sd15-i2i".to_owned(),
            prompt: "a lighthouse on a cliff at sunset, oil painting".to_owned(),
            side_px: NonZeroU32::new(512).expect("512 is not zero"),
            steps: NonZeroU32::new(4).expect("4 is not zero"),
        }
    }
}

impl PlaygroundSettings {
    /// What is wrong with the values, each with its key inside `[playground]`.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if self.endpoint().is_none() {
            faults.push(("endpoint".to_owned(), format!("`{}` is no app such as fal-ai/lcm-sd15-i2i", self.endpoint)));
        }
        if !SIDES.contains(&self.side_px.get()) {
            let what = format!("{} is not from {} to {}", self.side_px, SIDES.start(), SIDES.end());
            faults.push(("side_px".to_owned(), what));
        }
        if !STEPS.contains(&self.steps.get()) {
            let what = format!("{} is not from {} to {}", self.steps, STEPS.start(), STEPS.end());
            faults.push(("steps".to_owned(), what));
        }
        faults
    }

    /// The endpoint, where the text is one.
    #[must_use]
    pub fn endpoint(&self) -> Option<EndpointId> {
        EndpointId::parse(&self.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_cannot_draw_with_is_a_fault() {
        assert_eq!(PlaygroundSettings::default().faults(), []);
        let settings = PlaygroundSettings {
            endpoint: "lcm".to_owned(),
            side_px: NonZeroU32::new(4096).unwrap(),
            steps: NonZeroU32::new(13).unwrap(),
            ..PlaygroundSettings::default()
        };
        let keys: Vec<String> = settings.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["endpoint", "side_px", "steps"]);
    }
}
