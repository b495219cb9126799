//! The signatures and layouts that published models have: each serves as the stored one does, and what is wrong is named.

use std::path::Path;

use falgate::engine::onnx::{Compare, LibraryPlaces, OnnxBackend, OnnxSettings, inspect};
use falgate::engine::{Backend as _, LoadProgress, StepRow};

use super::onnx_edit::{FLOAT, INT64, move_weights_out, retype_timestep};
use super::onnx_support::{assembled, open, places};

/// Steps two rows at different timesteps, each with its own latents and words, and gives the results.
fn two_steps(folder: &Path) -> Option<Vec<Vec<f32>>> {
    let mut open = open(folder)?;
    let values = |seed: usize, len: usize| (0..len).map(|i| ((i * 37 + seed * 101) % 97) as f32 / 48.0 - 1.0).collect();
    let mut latents: Vec<_> = (0..2).map(|row| OnnxBackend::latents(8, 8, values(row, 256)).unwrap()).collect();
    let texts: Vec<_> = (0..2).map(|row| OnnxBackend::text(values(row + 5, 77 * 32))).collect();
    let guidance: Vec<f32> = values(9, 32);
    let mut rows: Vec<StepRow<'_>> = latents
        .iter_mut()
        .zip(&texts)
        .zip([499, 259])
        .map(|((latents, text), timestep)| StepRow {
            latents,
            timestep,
            text,
            guidance: &guidance,
            sample: 0.0,
            output: 1.0,
            noise: None,
        })
        .collect();
    open.backend.step(&mut rows).unwrap();
    Some(latents.iter().map(|row| open.backend.read_latents(row).unwrap()).collect())
}

/// Largest difference of two results.
fn apart(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn timesteps_of_any_type_and_rank_give_the_same_steps() {
    for (stored, was, ways, tolerance) in [
        // Single precision with an int64 number, as the exports of late 2023; with a list as long as the batch.
        ("tiny-lcm-onnx", FLOAT, vec![(INT64, vec![])], 2e-4),
        // Half precision with floats, one a picture.
        ("tiny-lcm-onnx-fp16", INT64, vec![(FLOAT, vec!["batch_size"])], 2e-2),
    ] {
        let parts = [("unet", format!("{stored}/unet"))];
        let parts = parts.each_ref().map(|(part, from)| (*part, from.as_str()));
        let plain = assembled(&parts);
        let Some(want) = two_steps(plain.path()) else { return };
        assert!(apart(&want[..1], &want[1..]) > 0.1, "the two rows have to differ for the test to mean something");
        for (element, dims) in ways {
            let edited = assembled(&parts);
            retype_timestep(&edited.path().join("unet/model.onnx"), (element, was), &dims);
            let got = two_steps(edited.path()).unwrap();
            assert!(apart(&got, &want) < tolerance, "{stored} {dims:?}: {}", apart(&got, &want));
        }
    }
}

#[test]
fn weights_beside_the_graph_are_found_under_both_usual_names() {
    // Weights need not be large for their place to matter: the smallest stored UNet will do.
    let small = || assembled(&[("unet", "variants/unet-batch-timestep")]);
    let plain = small();
    let Some(want) = two_steps(plain.path()) else { return };
    for name in ["model.onnx_data", "model.onnx.data"] {
        let folder = small();
        for part in ["text_encoder", "unet", "vae_encoder", "vae_decoder"] {
            move_weights_out(&folder.path().join(part).join("model.onnx"), name);
        }
        assert_eq!(two_steps(folder.path()).unwrap(), want, "{name}");
        let report = inspect(folder.path(), &places().unwrap(), Compare::Sizes);
        assert!(report.serves, "{report}");
        let beside = std::fs::metadata(folder.path().join("unet").join(name)).unwrap().len();
        assert!(report.parts[2].bytes > beside, "the weights beside the graph count: {report}");
    }
}

#[test]
fn weights_that_are_missing_or_cut_off_are_named() {
    let Some(places) = places() else { return };
    let folder = assembled(&[]);
    move_weights_out(&folder.path().join("unet/model.onnx"), "model.onnx_data");
    let weights = folder.path().join("unet/model.onnx_data");
    let bytes = std::fs::read(&weights).unwrap();
    let refused = || {
        let opened = OnnxBackend::open(&OnnxSettings::cpu(folder.path()), &places, &LoadProgress::silent());
        opened.unwrap_err().to_string()
    };
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(refused(), "unet cannot be opened: the file with its weights is missing or cut off");
    std::fs::remove_file(&weights).unwrap();
    assert_eq!(refused(), "unet cannot be opened: the file with its weights is missing or cut off");
}

#[test]
fn a_folder_of_variants_says_which_to_name() {
    let folder = tempfile::tempdir().unwrap();
    for variant in ["cuda", "cpu"] {
        std::fs::create_dir(folder.path().join(variant)).unwrap();
        std::fs::write(folder.path().join(variant).join("manifest.json"), "{}").unwrap();
    }
    let report = inspect(folder.path(), &LibraryPlaces::default(), Compare::Sizes);
    assert!(report.problems[0].ends_with("holds the variants cpu, cuda: name one of these folders"), "{report}");
}

#[test]
fn an_inspection_tells_the_manifest_and_what_differs_from_it() {
    let folder = assembled(&[]);
    let manifest = r#"{"format": "falgate-model/1", "variant": "cpu", "provider": "cpu", "precision": "float32",
        "autoencoder": "full", "licence": "none yet", "source": {"kind": "diffusers folder", "name": "tiny", "lora": {"name": "l"}},
        "checks": [{"what": "unet", "deviation": 1e-6, "tolerance": 5e-3, "unit": "of its spread"}], "notes": ["a note"],
        "files": {"unet/model.onnx": {"bytes": 1, "sha256": "00"}, "gone": {"bytes": 1, "sha256": "00"}}}"#;
    std::fs::write(folder.path().join("manifest.json"), manifest).unwrap();
    let report = inspect(folder.path(), &LibraryPlaces::default(), Compare::Sizes);
    let text = report.to_string();
    for want in [
        "variant   cpu: float32, full autoencoder, made for cpu",
        "source    diffusers folder tiny, LoRA l",
        "licence   none yet",
        "checked   unet: off by 1.0e-6 of its spread, 5e-3 allowed",
        "note      a note",
        "files     2 of 2 differ from the manifest",
        "the manifest disagrees: gone is not there",
        "the manifest disagrees: unet/model.onnx has",
        "This model would not serve.",
    ] {
        assert!(text.contains(want), "{want} is not in\n{text}");
    }
}
