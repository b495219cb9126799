//! The graphs of a model as a [`Backend`]. Latents and embeddings rest in host memory as `f32`.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::{Backend, BackendError, EncodeRow, Latents, ModelFacts, Picture, StepRow, TextRow, TokenIds};
use super::batches::calls;
use super::checker::Checker;
use super::session::{Part, is_finite, run_error};
use super::signature::{self, CHANNELS, Timestep};
use super::{pixels, tensors};

/// A model on ONNX Runtime.
#[derive(Debug)]
pub struct OnnxBackend {
    /// What the other rooms plan with.
    pub(super) facts: ModelFacts,
    /// `text_encoder`.
    pub(super) text: (Part, signature::Plain),
    /// `vae_encoder` and the factor after it.
    pub(super) encoder: (Part, signature::Plain, f32),
    /// `unet`.
    pub(super) unet: (Part, signature::Unet),
    /// `vae_decoder` and the divisor before it.
    pub(super) decoder: (Part, signature::Plain, f32),
    /// `safety_checker`, where the folder has one.
    pub(super) checker: Option<Checker>,
}

/// An embedding, `[tokens, width]`.
struct HostText(Vec<f32>);

/// Latents, `[4, height, width]`.
struct HostLatents(Vec<f32>);

/// The values of an embedding.
fn text_values(text: &TextRow) -> Result<&[f32], BackendError> {
    text.0.downcast_ref::<HostText>().map(|text| text.0.as_slice()).ok_or(BackendError::Foreign)
}

/// The values of latents.
fn latent_values(latents: &Latents) -> Result<&[f32], BackendError> {
    latents.data.downcast_ref::<HostLatents>().map(|latents| latents.0.as_slice()).ok_or(BackendError::Foreign)
}

/// Refuses a row with another number of values than the model takes.
fn sized(got: usize, want: usize) -> Result<(), BackendError> {
    if got == want { Ok(()) } else { Err(BackendError::Shape { got, want }) }
}

/// Values of latents of this size.
fn latent_len(width: u32, height: u32) -> usize {
    CHANNELS * width as usize * height as usize
}

impl OnnxBackend {
    /// Takes an embedding that was computed elsewhere, `[tokens, width]`.
    #[must_use]
    pub fn text(values: Vec<f32>) -> TextRow {
        TextRow(Arc::new(HostText(values)))
    }

    /// Takes latents that were computed elsewhere, `[4, height, width]`; `None` unless the values fill the size.
    #[must_use]
    pub fn latents(width: u32, height: u32, values: Vec<f32>) -> Option<Latents> {
        (values.len() == latent_len(width, height)).then(|| Latents {
            width,
            height,
            data: Box::new(HostLatents(values)),
        })
    }

    /// Runs the encoder on pictures of one size: per picture its means and, where the graph gives them, log-variances.
    pub(super) fn moments(&mut self, pictures: &[&Picture]) -> Result<Vec<Vec<f32>>, BackendError> {
        let Some(first) = pictures.first() else { return Ok(Vec::new()) };
        let (width, height) = (first.width() as usize, first.height() as usize);
        let factor = self.facts.latent_factor as usize;
        let latents = CHANNELS * (width / factor) * (height / factor);
        for picture in pictures {
            sized(picture.width() as usize, width)?;
            sized(picture.height() as usize, height)?;
        }
        let (part, signature, _) = &mut self.encoder;
        let mut moments = Vec::with_capacity(pictures.len());
        for call in calls(&vec![0; pictures.len()], signature.batch, self.facts.max_batch) {
            let rows = call.slots.len();
            let mut planes = Vec::with_capacity(rows * 3 * width * height);
            for slot in &call.slots {
                pixels::planes(pictures[*slot], &mut planes);
            }
            let input = tensors::tensor(&signature.input.element, &[rows, 3, height, width], planes)
                .map_err(|cause| run_error("vae_encoder", cause))?;
            let (_, values) = part.run(vec![(Cow::Owned(signature.input.name.clone()), input)], &signature.output)?;
            let row = values.len() / rows;
            if row != latents {
                sized(row, 2 * latents)?;
            }
            sized(values.len(), rows * row)?;
            moments.extend(values.chunks_exact(row).take(call.kept).map(<[f32]>::to_vec));
        }
        Ok(moments)
    }
}

impl Backend for OnnxBackend {
    fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    fn embed(&mut self, prompts: &[&TokenIds]) -> Result<Vec<TextRow>, BackendError> {
        let tokens = self.facts.prompt_tokens;
        for prompt in prompts {
            sized(prompt.len(), tokens)?;
        }
        let (part, signature) = &mut self.text;
        let mut texts = Vec::with_capacity(prompts.len());
        for call in calls(&vec![0; prompts.len()], signature.batch, self.facts.max_batch) {
            let rows = call.slots.len();
            let ids = call.slots.iter().flat_map(|slot| prompts[*slot].iter().copied()).collect();
            let input = tensors::ids(&signature.input.element, &[rows, tokens], ids)
                .map_err(|cause| run_error("text_encoder", cause))?;
            let (_, values) = part.run(vec![(Cow::Owned(signature.input.name.clone()), input)], &signature.output)?;
            let row = values.len() / rows;
            sized(values.len(), rows * row)?;
            sized(row % tokens, 0)?;
            let kept = values.chunks_exact(row.max(1)).take(call.kept);
            texts.extend(kept.map(|text| TextRow(Arc::new(HostText(text.to_vec())))));
        }
        Ok(texts)
    }

    fn encode(&mut self, rows: &[EncodeRow<'_>]) -> Result<Vec<Latents>, BackendError> {
        let pictures: Vec<&Picture> = rows.iter().map(|row| row.picture).collect();
        let moments = self.moments(&pictures)?;
        let scale = self.encoder.2;
        let factor = self.facts.latent_factor;
        rows.iter()
            .zip(moments)
            .map(|(row, moments)| {
                let (width, height) = (row.picture.width() / factor, row.picture.height() / factor);
                let len = latent_len(width, height);
                sized(row.initial.len(), len)?;
                let (mean, log_variance) = moments.split_at(len);
                let mut clean = mean.to_vec();
                // A graph that gives latents alone has no posterior left to read.
                if let Some(noise) = row.posterior.filter(|_| !log_variance.is_empty()) {
                    sized(noise.len(), len)?;
                    for ((value, log), noise) in clean.iter_mut().zip(log_variance).zip(noise) {
                        *value += (0.5 * log.clamp(-30.0, 20.0)).exp() * noise;
                    }
                }
                for (value, noise) in clean.iter_mut().zip(row.initial) {
                    *value = row.latents * (*value * scale) + row.noise * noise;
                }
                Ok(Latents { width, height, data: Box::new(HostLatents(clean)) })
            })
            .collect()
    }

    fn step(&mut self, rows: &mut [StepRow<'_>]) -> Result<(), BackendError> {
        let Some(first) = rows.first() else { return Ok(()) };
        let (width, height) = (first.latents.width, first.latents.height);
        let (len, text_len) = (latent_len(width, height), text_values(first.text)?.len());
        let (part, signature) = &mut self.unet;
        let guidance = self.facts.guidance_width.unwrap_or(0);
        for row in rows.iter() {
            sized(latent_values(row.latents)?.len(), len)?;
            sized(row.latents.width as usize, width as usize)?;
            sized(text_values(row.text)?.len(), text_len)?;
            sized(row.guidance.len(), guidance)?;
            sized(row.noise.map_or(len, |(_, noise)| noise.len()), len)?;
        }
        let (timestep, timestep_element) = &signature.timestep;
        let keys: Vec<u32> = match timestep {
            Timestep::PerRow => vec![0; rows.len()],
            Timestep::Scalar | Timestep::One => rows.iter().map(|row| row.timestep).collect(),
        };
        let tokens = self.facts.prompt_tokens;
        let mut outputs = Vec::with_capacity(rows.len());
        for call in calls(&keys, signature.batch, self.facts.max_batch) {
            let batch = call.slots.len();
            let mut sample = Vec::with_capacity(batch * len);
            let mut text = Vec::with_capacity(batch * text_len);
            let mut cond = Vec::with_capacity(batch * guidance);
            let mut times: Vec<f32> = Vec::with_capacity(batch);
            for row in call.slots.iter().map(|slot| &rows[*slot]) {
                sample.extend_from_slice(latent_values(row.latents)?);
                text.extend_from_slice(text_values(row.text)?);
                cond.extend_from_slice(row.guidance);
                times.push(row.timestep as f32);
            }
            let times_shape = match timestep {
                Timestep::Scalar => vec![],
                Timestep::One => vec![1],
                Timestep::PerRow => vec![batch],
            };
            times.truncate(times_shape.first().copied().unwrap_or(1));
            let tensor = |element, shape: &[usize], values| {
                tensors::tensor(element, shape, values).map_err(|cause| run_error("unet", cause))
            };
            let sample_shape = [batch, CHANNELS, height as usize, width as usize];
            let mut inputs = vec![
                (Cow::Borrowed("sample"), tensor(&signature.sample, &sample_shape, sample)?),
                (Cow::Borrowed("timestep"), tensor(timestep_element, &times_shape, times)?),
                (
                    Cow::Borrowed("encoder_hidden_states"),
                    tensor(&signature.text, &[batch, tokens, text_len / tokens], text)?,
                ),
            ];
            if let Some((element, _)) = &signature.guidance {
                inputs.push((Cow::Borrowed("timestep_cond"), tensor(element, &[batch, guidance], cond)?));
            }
            let (_, output) = part.run_unchecked(inputs, &signature.output)?;
            sized(output.len(), batch * len)?;
            outputs.push((call, output));
        }
        // All calls went well: until here every row is as it was, and could be tried again.
        let mut overflowed = Vec::new();
        for (call, output) in &outputs {
            for (slot, output) in call.slots.iter().zip(output.chunks_exact(len)).take(call.kept) {
                // A row's values are its own: what overflows in one leaves its neighbours as they are.
                if is_finite(output) {
                    advance(&mut rows[*slot], output)?;
                } else {
                    overflowed.push(*slot);
                }
            }
        }
        if overflowed.is_empty() { Ok(()) } else { Err(BackendError::NotFinite { part: "unet", rows: overflowed }) }
    }

    fn decode(&mut self, rows: &[&Latents]) -> Result<Vec<Picture>, BackendError> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let (width, height) = (first.width, first.height);
        let (len, factor) = (latent_len(width, height), self.facts.latent_factor);
        for row in rows {
            sized(latent_values(row)?.len(), len)?;
            sized(row.width as usize, width as usize)?;
        }
        let (part, signature, scale) = &mut self.decoder;
        let scale = *scale;
        let want = 3 * (width * factor) as usize * (height * factor) as usize;
        let mut pictures = Vec::with_capacity(rows.len());
        for call in calls(&vec![0; rows.len()], signature.batch, self.facts.max_batch) {
            let batch = call.slots.len();
            let mut latents = Vec::with_capacity(batch * len);
            for slot in &call.slots {
                latents.extend(latent_values(rows[*slot])?.iter().map(|value| value / scale));
            }
            let shape = [batch, CHANNELS, height as usize, width as usize];
            let input = tensors::tensor(&signature.input.element, &shape, latents)
                .map_err(|cause| run_error("vae_decoder", cause))?;
            let (_, values) = part.run(vec![(Cow::Owned(signature.input.name.clone()), input)], &signature.output)?;
            sized(values.len(), batch * want)?;
            for planes in values.chunks_exact(want).take(call.kept) {
                let picture = Picture::new(width * factor, height * factor, pixels::bytes(planes));
                pictures.push(picture.ok_or(BackendError::Shape { got: planes.len(), want })?);
            }
        }
        Ok(pictures)
    }

    fn judge(&mut self, pictures: &[&Picture]) -> Result<Vec<bool>, BackendError> {
        let checker = self.checker.as_mut().ok_or(BackendError::NoChecker)?;
        checker.check(pictures, self.facts.max_batch)
    }

    fn read_latents(&mut self, latents: &Latents) -> Result<Vec<f32>, BackendError> {
        latent_values(latents).map(<[f32]>::to_vec)
    }

    fn read_text(&mut self, text: &TextRow) -> Result<Vec<f32>, BackendError> {
        text_values(text).map(<[f32]>::to_vec)
    }
}

/// `x ← sample·x + output·unet(x) + noise·step_noise`.
fn advance(row: &mut StepRow<'_>, output: &[f32]) -> Result<(), BackendError> {
    let latents = row.latents.data.downcast_mut::<HostLatents>().ok_or(BackendError::Foreign)?;
    for (value, output) in latents.0.iter_mut().zip(output) {
        *value = row.sample * *value + row.output * output;
    }
    if let Some((weight, noise)) = row.noise {
        for (value, noise) in latents.0.iter_mut().zip(noise) {
            *value += weight * noise;
        }
    }
    Ok(())
}
