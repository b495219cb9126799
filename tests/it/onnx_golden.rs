//! The ONNX backend against values recorded from diffusers, stage by stage.

use falgate::engine::onnx::OnnxBackend;
use falgate::engine::{Backend as _, EncodeRow, Latents, Picture, StepRow};

use super::onnx_support::{Deviations, Open, document, golden, half, single};

/// Tolerances of one model, the last in levels.
struct Tolerances {
    text: f64,
    moments: f64,
    noisy: f64,
    unet: f64,
    step: f64,
    pixels: f64,
}

const SINGLE: Tolerances = Tolerances { text: 2e-5, moments: 1e-3, noisy: 2e-4, unet: 2e-3, step: 3e-3, pixels: 1.0 };
const HALF: Tolerances = Tolerances { text: 1e-2, moments: 2e-1, noisy: 4e-2, unet: 5e-2, step: 2e-1, pixels: 4.0 };

/// One recorded run.
struct Case {
    key: String,
    prompts: Vec<String>,
    timesteps: Vec<u32>,
    width: u32,
    height: u32,
}

impl Case {
    fn all() -> Vec<Self> {
        let read = |case: &serde_json::Value| {
            let name = case["name"].as_str().unwrap();
            let key = format!("case.{name}.");
            let shape = golden().shape(&format!("{key}image_u8"));
            let prompts = match &case["prompts"] {
                serde_json::Value::Array(several) => {
                    several.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
                }
                one => vec![one.as_str().unwrap().to_owned()],
            };
            let timesteps = case["timesteps"].as_array().unwrap();
            Self {
                prompts,
                timesteps: timesteps.iter().map(|step| step.as_u64().unwrap() as u32).collect(),
                height: shape[1] as u32,
                width: shape[2] as u32,
                key,
            }
        };
        document()["cases"].as_array().unwrap().iter().map(read).collect()
    }

    fn rows(&self) -> usize {
        self.prompts.len()
    }

    /// A recorded tensor, cut into one piece a row.
    fn floats(&self, name: &str) -> Vec<Vec<f32>> {
        let all = golden().floats(&format!("{}{name}", self.key));
        all.chunks_exact(all.len() / self.rows()).map(<[f32]>::to_vec).collect()
    }

    /// A recorded tensor of bytes, cut into one piece a row.
    fn bytes(&self, name: &str) -> Vec<Vec<u8>> {
        let all = golden().bytes(&format!("{}{name}", self.key));
        all.chunks_exact(all.len() / self.rows()).map(<[u8]>::to_vec).collect()
    }

    fn pictures(&self) -> Vec<Picture> {
        let pictures = self.bytes("image_u8").into_iter();
        pictures.map(|rgb| Picture::new(self.width, self.height, rgb).unwrap()).collect()
    }

    /// Recorded latents as the backend keeps them.
    fn latents(&self, name: &str) -> Vec<Latents> {
        let rows = self.floats(name).into_iter();
        rows.map(|row| OnnxBackend::latents(self.width / 8, self.height / 8, row).unwrap()).collect()
    }
}

/// (√ᾱ, √(1−ᾱ)) of a timestep, by the definition.
fn weights(timestep: u32) -> (f64, f64) {
    let (first, last) = (0.000_85f64.sqrt(), 0.012f64.sqrt());
    let alpha: f64 = (0..=timestep).map(|i| 1.0 - (first + (last - first) * f64::from(i) / 999.0).powi(2)).product();
    (alpha.sqrt(), (1.0 - alpha).sqrt())
}

fn encode(open: &mut Open, case: &Case, posterior: Option<&[Vec<f32>]>, weights: (f32, f32)) -> Vec<Vec<f32>> {
    let (pictures, initial) = (case.pictures(), case.floats("noise.initial"));
    let rows: Vec<EncodeRow<'_>> = (0..case.rows())
        .map(|row| EncodeRow {
            picture: &pictures[row],
            posterior: posterior.map(|noise| noise[row].as_slice()),
            latents: weights.0,
            noise: weights.1,
            initial: &initial[row],
        })
        .collect();
    let latents = open.backend.encode(&rows).unwrap();
    latents.iter().map(|latents| open.backend.read_latents(latents).unwrap()).collect()
}

/// Encodes with the posterior's mode and with unit noise: the means, and the standard deviations.
fn moments(open: &mut Open, case: &Case, tolerances: &Tolerances, seen: &mut Deviations) {
    const SCALE: f32 = 0.182_15;
    let mode = encode(open, case, None, (1.0, 0.0));
    let ones = vec![vec![1.0; mode[0].len()]; case.rows()];
    let above = encode(open, case, Some(&ones), (1.0, 0.0));
    for (row, recorded) in case.floats("moments").iter().enumerate() {
        let (mean, log_variance) = recorded.split_at(recorded.len() / 2);
        let got: Vec<f32> = mode[row].iter().map(|value| value / SCALE).collect();
        seen.note(("mean", tolerances.moments), &got, mean);
        // Relative, because a deviation of the logarithm is one.
        let deviation = |log: &f32| (0.5 * log.clamp(-30.0, 20.0)).exp();
        let want: Vec<f32> = log_variance.iter().map(deviation).collect();
        let scale = |pair: (&f32, &f32)| pair.0 / pair.1.max(1.0);
        let got: Vec<f32> = above[row].iter().zip(&mode[row]).map(|(one, zero)| (one - zero) / SCALE).collect();
        let got: Vec<f32> = got.iter().zip(&want).map(scale).collect();
        let relative: Vec<f32> = want.iter().zip(&want).map(scale).collect();
        seen.note(("deviation", tolerances.moments), &got, &relative);
    }
}

/// Runs one step of recorded latents, with the given weights of latents and output, and noise.
fn step(open: &mut Open, case: &Case, index: usize, weights: (f64, f64, Option<f64>)) -> Vec<Vec<f32>> {
    let (sample, output, noise) = weights;
    let mut latents = case.latents(&format!("step{index}.in"));
    let texts: Vec<_> = case.floats("text").into_iter().map(OnnxBackend::text).collect();
    let guidance = case.floats("w_embedding");
    let fresh = noise.map(|weight| (weight as f32, case.floats(&format!("noise.step{index}"))));
    let rows = latents.iter_mut().enumerate();
    let mut rows: Vec<StepRow<'_>> = rows
        .map(|(row, latents)| StepRow {
            latents,
            timestep: case.timesteps[index],
            text: &texts[row],
            guidance: &guidance[row],
            sample: sample as f32,
            output: output as f32,
            noise: fresh.as_ref().map(|(weight, noise)| (*weight, noise[row].as_slice())),
        })
        .collect();
    open.backend.step(&mut rows).unwrap();
    latents.iter().map(|latents| open.backend.read_latents(latents).unwrap()).collect()
}

fn steps(open: &mut Open, case: &Case, tolerances: &Tolerances, seen: &mut Deviations) {
    let note = |seen: &mut Deviations, stage, got: &[Vec<f32>], name: &str, tolerance| {
        for (got, want) in got.iter().zip(case.floats(name)) {
            seen.note((stage, tolerance), got, &want);
        }
    };
    for (index, timestep) in case.timesteps.iter().enumerate() {
        let output = step(open, case, index, (0.0, 1.0, None));
        note(seen, "unet", &output, &format!("step{index}.model_output"), tolerances.unet);
        let (signal, noise) = weights(*timestep);
        let scaled = 10.0 * f64::from(*timestep);
        let (skip, out) = (0.25 / (scaled * scaled + 0.25), scaled / (scaled * scaled + 0.25).sqrt());
        let (sample, output) = (out / signal + skip, -out * noise / signal);
        let clean = step(open, case, index, (sample, output, None));
        note(seen, "denoised", &clean, &format!("step{index}.denoised"), tolerances.step);
        let next = match case.timesteps.get(index + 1) {
            Some(next) => {
                let (signal, noise) = weights(*next);
                step(open, case, index, (sample * signal, output * signal, Some(noise)))
            }
            None => clean,
        };
        note(seen, "step out", &next, &format!("step{index}.out"), tolerances.step);
    }
}

fn stages(open: &mut Open, tolerances: &Tolerances, title: &str) {
    let mut seen = Deviations::default();
    let prompts = document()["tokenizer"].as_array().unwrap();
    for index in [0, 1, 4, 18] {
        let ids = open.tokenizer.ids(prompts[index]["prompt"].as_str().unwrap());
        let text = open.backend.embed(&[&ids]).unwrap().remove(0);
        let got = open.backend.read_text(&text).unwrap();
        seen.note(("text", tolerances.text), &got, &golden().floats(&format!("text.{index}")));
    }
    for case in Case::all() {
        let ids: Vec<_> = case.prompts.iter().map(|prompt| open.tokenizer.ids(prompt)).collect();
        let texts = open.backend.embed(&ids.iter().collect::<Vec<_>>()).unwrap();
        for (text, want) in texts.iter().zip(case.floats("text")) {
            seen.note(("text", tolerances.text), &open.backend.read_text(text).unwrap(), &want);
        }
        moments(open, &case, tolerances, &mut seen);
        let (signal, noise) = weights(case.timesteps[0]);
        let posterior = case.floats("noise.posterior");
        let noisy = encode(open, &case, Some(&posterior), (signal as f32, noise as f32));
        for (got, want) in noisy.iter().zip(case.floats("step0.in")) {
            seen.note(("noisy latents", tolerances.noisy), got, &want);
        }
        steps(open, &case, tolerances, &mut seen);
        let last = case.latents(&format!("step{}.out", case.timesteps.len() - 1));
        let pictures = open.backend.decode(&last.iter().collect::<Vec<_>>()).unwrap();
        for (picture, want) in pictures.iter().zip(case.bytes("output_u8")) {
            seen.levels(("decoded levels", tolerances.pixels), picture.rgb(), &want);
        }
    }
    seen.check(title);
}

#[test]
fn the_recorded_prompts_become_the_recorded_ids() {
    let folder = super::onnx_support::model("tiny-lcm-onnx");
    let tokenizer = falgate::engine::onnx::tokenizer(&folder).unwrap();
    let prompts = document()["tokenizer"].as_array().unwrap();
    assert_eq!(prompts.len(), 20);
    for entry in prompts {
        let want: Vec<i64> = entry["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        assert_eq!(tokenizer.ids(entry["prompt"].as_str().unwrap()), want, "{}", entry["prompt"]);
    }
}

#[test]
fn every_stage_of_the_single_precision_model_gives_the_recorded_values() {
    let Some(mut open) = single() else { return };
    stages(&mut open, &SINGLE, "fp32");
}

#[test]
fn every_stage_of_the_half_precision_model_gives_the_recorded_values() {
    let Some(mut open) = half() else { return };
    stages(&mut open, &HALF, "fp16");
}

/// Runs a case from its pictures to its pictures with the recorded noise, all rows in one batch.
fn whole(open: &mut Open, case: &Case) -> Vec<Picture> {
    let (signal, spread) = weights(case.timesteps[0]);
    let noisy = encode(open, case, Some(&case.floats("noise.posterior")), (signal as f32, spread as f32));
    let (width, height) = (case.width / 8, case.height / 8);
    let mut latents: Vec<_> = noisy.into_iter().map(|row| OnnxBackend::latents(width, height, row).unwrap()).collect();
    let ids: Vec<_> = case.prompts.iter().map(|prompt| open.tokenizer.ids(prompt)).collect();
    let texts = open.backend.embed(&ids.iter().collect::<Vec<_>>()).unwrap();
    let guidance = case.floats("w_embedding");
    for (index, timestep) in case.timesteps.iter().enumerate() {
        let (signal, spread) = weights(*timestep);
        let next =
            case.timesteps.get(index + 1).map(|next| (weights(*next), case.floats(&format!("noise.step{index}"))));
        let keep = next.as_ref().map_or(1.0, |((signal, _), _)| *signal);
        let rows = latents.iter_mut().enumerate();
        // At the timesteps of the cases c_out is 1 and c_skip is 0 to six digits.
        let mut rows: Vec<StepRow<'_>> = rows
            .map(|(row, latents)| StepRow {
                latents,
                timestep: *timestep,
                text: &texts[row],
                guidance: &guidance[row],
                sample: (keep / signal) as f32,
                output: (-keep * spread / signal) as f32,
                noise: next.as_ref().map(|((_, spread), noise)| (*spread as f32, noise[row].as_slice())),
            })
            .collect();
        open.backend.step(&mut rows).unwrap();
    }
    open.backend.decode(&latents.iter().collect::<Vec<_>>()).unwrap()
}

#[test]
fn every_case_comes_out_as_recorded_from_its_pictures_on() {
    let (Some(mut single), Some(mut half)) = (single(), half()) else { return };
    let mut seen = Deviations::default();
    for case in Case::all() {
        let wants = case.bytes("output_u8");
        for (picture, want) in whole(&mut single, &case).iter().zip(&wants) {
            seen.levels(("final, fp32", 1.0), picture.rgb(), want);
        }
        for (picture, want) in whole(&mut half, &case).iter().zip(&wants) {
            seen.levels(("final, fp16", 4.0), picture.rgb(), want);
        }
    }
    seen.check("whole");
}

#[test]
fn rows_of_a_batch_at_different_timesteps_equal_their_lone_runs() {
    let Some(mut open) = single() else { return };
    let cases = Case::all();
    let case = cases.iter().find(|case| case.rows() == 2).unwrap();
    let texts: Vec<_> = case.floats("text").into_iter().map(OnnxBackend::text).collect();
    let guidance = case.floats("w_embedding");
    let timesteps = [399, 19, 399];
    let mut run = |chosen: &[usize]| -> Vec<Vec<f32>> {
        let mut latents: Vec<Latents> = chosen.iter().map(|row| case.latents("step0.in").remove(row % 2)).collect();
        let rows = latents.iter_mut().zip(chosen);
        let mut rows: Vec<StepRow<'_>> = rows
            .map(|(latents, row)| StepRow {
                latents,
                timestep: timesteps[*row],
                text: &texts[row % 2],
                guidance: &guidance[row % 2],
                sample: 0.5,
                output: 1.5,
                noise: None,
            })
            .collect();
        open.backend.step(&mut rows).unwrap();
        latents.iter().map(|latents| open.backend.read_latents(latents).unwrap()).collect()
    };
    let together = run(&[0, 1, 2]);
    let mut seen = Deviations::default();
    for (row, got) in together.iter().enumerate() {
        seen.note(("batch row", 1e-4), got, &run(&[row])[0]);
    }
    seen.check("batch");
}
