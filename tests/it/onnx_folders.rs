//! Folders that cannot serve say why in one sentence, and odd but usable signatures serve.

use std::path::Path;

use falgate::engine::onnx::{Compare, LibraryPlaces, ModelError, OnnxBackend, OnnxSettings, inspect};
use falgate::engine::{
    Backend as _, BackendError, EncodeRow, Latents, LoadProgress, Picture, Provider, StepRow, TextRow,
};

use super::engine_support::deviation;
use super::onnx_support::{Deviations, Tensors, assembled, half, model, open, places, single};

/// Opens a folder that must be refused.
fn refused(folder: &Path) -> Option<String> {
    let error = OnnxBackend::open(&OnnxSettings::cpu(folder), &places()?, &LoadProgress::silent()).unwrap_err();
    println!("{error}");
    Some(error.to_string())
}

/// Writes a file, with its folder.
fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let Some(error) = refused(Path::new("tests/models/nowhere")) else { return };
    assert_eq!(error, "model folder tests/models/nowhere does not exist");
}

#[test]
fn all_missing_files_are_named_at_once() {
    let folder = assembled(&[]);
    for name in ["unet/model.onnx", "scheduler/scheduler_config.json", "tokenizer/merges.txt"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    let Some(error) = refused(folder.path()) else { return };
    assert!(
        error.ends_with(" lacks unet/model.onnx, scheduler/scheduler_config.json, tokenizer/merges.txt"),
        "{error}"
    );
}

#[test]
fn a_truncated_graph_is_called_cut_off() {
    let folder = assembled(&[]);
    let graph = folder.path().join("vae_decoder/model.onnx");
    let bytes = std::fs::read(&graph).unwrap();
    std::fs::write(&graph, &bytes[..bytes.len() / 2]).unwrap();
    let Some(error) = refused(folder.path()) else { return };
    assert_eq!(error, "vae_decoder cannot be opened: its model.onnx is cut off or no ONNX graph");
    std::fs::write(&graph, "").unwrap();
    let error = refused(folder.path()).unwrap();
    assert_eq!(error, "vae_decoder cannot be opened: its model.onnx is cut off or no ONNX graph");
}

#[test]
fn configuration_files_that_are_no_json_are_named_with_the_place() {
    for name in ["unet/config.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json"] {
        let folder = assembled(&[]);
        write(folder.path(), name, "{\n  \"a\": ");
        let Some(error) = refused(folder.path()) else { return };
        assert!(error.contains(&format!("{name} is not a configuration file of this kind")), "{error}");
        assert!(error.contains("line 2 column"), "{error}");
    }
}

#[test]
fn models_of_other_families_and_tools_are_refused_by_their_kind() {
    let folder = assembled(&[]);
    write(folder.path(), "model_index.json", r#"{"_class_name": "StableDiffusionXLImg2ImgPipeline"}"#);
    let Some(error) = refused(folder.path()) else { return };
    assert!(error.contains("holds an SDXL model"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "unet/openvino_model.xml", "<net/>");
    let error = refused(folder.path()).unwrap();
    assert!(
        error.contains("holds an OpenVINO model; convert what it was made from with `python models/tools"),
        "{error}"
    );

    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "unet/diffusion_pytorch_model.safetensors", "");
    let error = refused(folder.path()).unwrap();
    assert!(
        error.contains("holds torch weights without ONNX graphs; convert them with `python models/tools"),
        "{error}"
    );
}

#[test]
fn settings_that_the_engine_lacks_are_refused_by_name() {
    for (name, json, want) in [
        (
            "scheduler/scheduler_config.json",
            r#"{"beta_schedule": "linear"}"#,
            "scheduler cannot serve: beta_schedule is linear",
        ),
        ("scheduler/scheduler_config.json", r#"{"clip_sample": true}"#, "scheduler cannot serve: clip_sample is set"),
        ("unet/config.json", r#"{"in_channels": 9}"#, "unet cannot serve: in_channels is 9, not 4"),
        ("unet/config.json", r#"{"cross_attention_dim": 1024}"#, "unet cannot serve: it wants text of width 1024"),
        ("unet/config.json", r#"{"time_cond_proj_dim": 256}"#, "unet cannot serve: timestep_cond is 32 wide"),
        ("vae_encoder/config.json", r#"{"shift_factor": 0.1}"#, "vae_encoder cannot serve: shift_factor is 0.1"),
        (
            "vae_decoder/config.json",
            r#"{"block_out_channels": [8, 8]}"#,
            "vae_decoder cannot serve: it enlarges 2 times",
        ),
        ("text_encoder/config.json", r#"{"max_position_embeddings": 2}"#, "tokenizer cannot be used"),
    ] {
        let folder = assembled(&[]);
        write(folder.path(), name, json);
        let Some(error) = refused(folder.path()) else { return };
        assert!(error.starts_with(want), "{error}");
    }
}

#[test]
fn a_graph_in_the_wrong_place_is_refused_by_what_it_declares() {
    let folder = assembled(&[("vae_decoder", "tiny-lcm-onnx/vae_encoder")]);
    let Some(error) = refused(folder.path()) else { return };
    assert_eq!(
        error,
        "vae_decoder cannot serve: sample has the shape [batch_size, 3, sample_height, sample_width], not 4 channels"
    );
}

#[test]
fn cuda_is_refused_where_it_cannot_be_had_and_never_replaced() {
    let Some(places) = places() else { return };
    let settings = OnnxSettings { provider: Provider::Cuda, ..OnnxSettings::cpu(model("tiny-lcm-onnx")) };
    if cfg!(feature = "cuda") {
        return; // whether it is refused depends on the machine then
    }
    let error = OnnxBackend::open(&settings, &places, &LoadProgress::silent()).unwrap_err();
    assert_eq!(error.to_string(), "engine.provider asks for cuda, but this falgate was built without its feature cuda");
}

#[test]
fn without_the_library_opening_fails_with_what_to_do() {
    let settings = OnnxSettings::cpu(model("tiny-lcm-onnx"));
    let error = OnnxBackend::open(&settings, &LibraryPlaces::default(), &LoadProgress::silent()).unwrap_err();
    assert!(matches!(error, ModelError::Library(_)));
    assert!(error.to_string().starts_with("ONNX Runtime is not here: run scripts/fetch-onnxruntime.sh"), "{error}");
}

/// Steps recorded latents of a variant's UNet and compares its output.
fn variant(name: &str, timesteps: &[u32], guidance: usize) {
    let folder = assembled(&[("unet", &format!("variants/{name}"))]);
    let Some(mut open) = open(folder.path()) else { return };
    assert_eq!(open.backend.facts().guidance_width, (guidance > 0).then_some(guidance));
    let recorded = Tensors::read("tests/models/variants/golden.safetensors");
    let floats = |tensor: &str| recorded.floats(&format!("{name}.{tensor}"));
    let (sample, text, want) = (floats("sample"), floats("encoder_hidden_states"), floats("output"));
    let cond = if guidance > 0 { floats("timestep_cond") } else { Vec::new() };
    let row = want.len() / 2;
    let mut latents: Vec<_> =
        sample.chunks_exact(row).map(|row| OnnxBackend::latents(8, 8, row.to_vec()).unwrap()).collect();
    let texts: Vec<_> = text.chunks_exact(77 * 32).map(|row| OnnxBackend::text(row.to_vec())).collect();
    let rows = latents.iter_mut().zip(&texts).enumerate();
    let mut rows: Vec<StepRow<'_>> = rows
        .map(|(index, (latents, text))| StepRow {
            latents,
            timestep: timesteps[index],
            text,
            guidance: &cond[index * guidance..(index + 1) * guidance],
            sample: 0.0,
            output: 1.0,
            noise: None,
        })
        .collect();
    open.backend.step(&mut rows).unwrap();
    let mut seen = Deviations::default();
    for (latents, want) in latents.iter().zip(want.chunks_exact(row)) {
        seen.note(("unet", 2e-3), &open.backend.read_latents(latents).unwrap(), want);
    }
    seen.check(name);
}

#[test]
fn a_unet_without_guidance_and_with_a_list_of_one_timestep_serves() {
    let recorded = Tensors::read("tests/models/variants/golden.safetensors");
    let step = recorded.integers("unet-no-guidance.timestep")[0] as u32;
    variant("unet-no-guidance", &[step, step], 0);
}

#[test]
fn a_unet_with_one_timestep_a_row_takes_rows_at_different_steps_in_one_call() {
    let recorded = Tensors::read("tests/models/variants/golden.safetensors");
    let steps: Vec<u32> = recorded.floats("unet-batch-timestep.timestep").iter().map(|step| *step as u32).collect();
    assert_ne!(steps[0], steps[1]);
    variant("unet-batch-timestep", &steps, 32);
}

#[test]
fn a_distilled_autoencoder_serves_with_latents_in_place_of_moments() {
    let folder = assembled(&[("vae_encoder", "variants/taesd-encoder"), ("vae_decoder", "variants/taesd-decoder")]);
    let Some(mut open) = open(folder.path()) else { return };
    let recorded = Tensors::read("tests/models/variants/golden.safetensors");
    let mut seen = Deviations::default();

    let latents = OnnxBackend::latents(8, 8, recorded.floats("taesd-decoder.latent_sample")).unwrap();
    let picture = open.backend.decode(&[&latents]).unwrap().remove(0);
    let planes = recorded.floats("taesd-decoder.output");
    let level = |place: usize| {
        let value = planes[place % 3 * 4096 + place / 3];
        ((value * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
    };
    let want: Vec<u8> = (0..3 * 4096).map(level).collect();
    seen.levels(("decoded levels", 1.0), picture.rgb(), &want);

    // The recorded input lies between the levels of a picture: close, not equal.
    let planes = recorded.floats("taesd-encoder.sample");
    let rgb = (0..3 * 4096).map(|place| ((planes[place % 3 * 4096 + place / 3] + 1.0) * 127.5).round() as u8);
    let picture = Picture::new(64, 64, rgb.collect()).unwrap();
    let initial = vec![0.0; 256];
    let row = EncodeRow { picture: &picture, posterior: Some(&initial), latents: 1.0, noise: 0.0, initial: &initial };
    let latents = open.backend.encode(&[row]).unwrap().remove(0);
    let want = recorded.floats("taesd-encoder.output");
    seen.note(("encoded", 5e-2), &open.backend.read_latents(&latents).unwrap(), &want);
    seen.check("taesd");
}

/// A step that changes nothing.
fn step<'a>(latents: &'a mut Latents, guidance: &'a [f32], text: &'a TextRow) -> StepRow<'a> {
    StepRow { latents, timestep: 499, text, guidance, sample: 1.0, output: 0.0, noise: None }
}

#[test]
fn rows_of_the_wrong_size_or_of_another_backend_are_refused() {
    let Some(mut open) = single() else { return };
    let text = OnnxBackend::text(vec![0.0; 77 * 32]);
    let mut latents = OnnxBackend::latents(8, 8, vec![0.0; 256]).unwrap();
    let error = open.backend.step(&mut [step(&mut latents, &[0.0; 3], &text)]).unwrap_err();
    assert!(matches!(error, BackendError::Shape { got: 3, want: 32 }), "{error}");
    let foreign = TextRow(std::sync::Arc::new(7));
    let error = open.backend.step(&mut [step(&mut latents, &[0.0; 32], &foreign)]).unwrap_err();
    assert!(matches!(error, BackendError::Foreign), "{error}");
    latents.data = Box::new(7);
    assert!(matches!(open.backend.decode(&[&latents]).unwrap_err(), BackendError::Foreign));
    let error = open.backend.embed(&[&vec![0; 3]]).map(|_| ()).unwrap_err();
    assert!(matches!(error, BackendError::Shape { got: 3, want: 77 }), "{error}");
}

#[test]
fn a_row_that_overflows_in_the_unet_is_named_and_its_neighbour_is_stepped_as_if_alone() {
    let Some(mut open) = half() else { return };
    let text = OnnxBackend::text(vec![0.1; 77 * 32]);
    let guidance = [0.0; 32];
    let sound = || OnnxBackend::latents(8, 8, vec![0.5; 256]).unwrap();
    let mut row = |all: &mut [&mut Latents]| {
        let mut rows: Vec<_> =
            all.iter_mut().map(|latents| StepRow { output: 1.0, ..step(latents, &guidance, &text) }).collect();
        open.backend.step(&mut rows)
    };
    let (mut alone, mut large, mut beside) = (sound(), OnnxBackend::latents(8, 8, vec![1e9; 256]).unwrap(), sound());
    row(&mut [&mut alone]).unwrap();
    let error = row(&mut [&mut large, &mut beside]).unwrap_err();
    assert!(matches!(&error, BackendError::NotFinite { part: "unet", rows } if *rows == [0]), "{error:?}");
    let read = |latents: &Latents| open.backend.read_latents(latents).unwrap();
    let [alone, beside] = [&alone, &beside].map(read);
    assert!(deviation(&beside, &alone) < 5e-2 && deviation(&beside, &[0.5; 256]) > 1e-3);
}

#[test]
fn what_overflows_half_precision_is_an_error_and_no_black_picture() {
    let Some(mut open) = half() else { return };
    let latents = OnnxBackend::latents(8, 8, vec![1e9; 256]).unwrap();
    let error = open.backend.decode(&[&latents]).unwrap_err();
    assert!(matches!(error, BackendError::NotFinite { part: "vae_decoder", .. }), "{error}");
}

#[test]
fn an_inspection_shows_what_a_model_takes_and_that_it_would_serve() {
    let Some(places) = places() else { return };
    let report = inspect(&model("tiny-lcm-onnx-fp16"), &places, Compare::Sizes);
    assert!(report.serves && report.problems.is_empty(), "{report}");
    let text = report.to_string();
    println!("{text}");
    for want in ["timestep ", "int64 ", "[batch_size, 4, height, width]", "float16", "This model would serve."] {
        assert!(text.contains(want), "{want} is not in\n{text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["parts"][2]["part"], "unet");
    assert_eq!(json["parts"][2]["ports"]["inputs"][1]["element"], "int64");
    assert_eq!(json["parts"][2]["ports"]["inputs"][0]["dims"][1], 4);
}

#[test]
fn an_inspection_lists_the_files_and_all_problems_without_a_runtime_too() {
    let folder = assembled(&[]);
    std::fs::remove_file(folder.path().join("unet/model.onnx")).unwrap();
    write(folder.path(), "scheduler/scheduler_config.json", r#"{"beta_schedule": "linear"}"#);
    let report = inspect(folder.path(), &LibraryPlaces::default(), Compare::Sizes);
    println!("{report}");
    assert!(!report.serves);
    assert_eq!(report.missing, ["unet/model.onnx"]);
    assert_eq!(report.problems.len(), 2, "{report}");
    assert!(report.problems[0].contains("beta_schedule"));
    assert!(report.problems[1].starts_with("ONNX Runtime is not here"));
    assert!(report.parts[0].bytes > 100_000 && report.parts[2].bytes == 0);
}
