//! Safety checkers in model folders: both published forms judge alike, what is no checker is refused by name.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;

use falgate::engine::onnx::{Compare, OnnxBackend, OnnxSettings, inspect};
use falgate::engine::{
    Backend as _, BackendError, Engine, EngineSettings, Job, LoadProgress, Picture, SafetyCheck, onnx,
};

use http::Method;

use super::engine_support::{job, within};
use super::gate_support::{APP, Line, asked};
use super::host_desk::{data_uri, first_picture};
use super::onnx_support::{assembled, model, open, places};
use super::support::program::Program;

const PUBLISHED: &str = "variants/safety-checker";
const ALONE: &str = "variants/safety-checker-alone";

/// The single precision model with a checker.
fn with_checker(from: &str) -> tempfile::TempDir {
    let folder = assembled(&[]);
    let part = folder.path().join("safety_checker");
    std::fs::create_dir(&part).unwrap();
    std::fs::copy(model(from).join("model.onnx"), part.join("model.onnx")).unwrap();
    folder
}

/// Noise around a level of grey.
fn noisy(level: u8, (width, height): (u32, u32)) -> Picture {
    let byte = |index: u32| level.saturating_add_signed((index.wrapping_mul(2_654_435_761) >> 27) as i8 - 16);
    Picture::new(width, height, (0..width * height * 3).map(byte).collect()).unwrap()
}

/// Pictures of several sizes, and which of them the miniature checkers flag: the bright ones.
fn pictures() -> Vec<(Picture, bool)> {
    let sizes = [(64, 64), (512, 512), (128, 64), (64, 256), (224, 224), (320, 448)];
    let levels = [230, 25, 200, 60, 90, 170];
    sizes.into_iter().zip(levels).map(|(size, level)| (noisy(level, size), level > 128)).collect()
}

#[test]
fn pictures_of_all_sizes_share_a_call_and_each_has_its_own_verdict() {
    for from in [PUBLISHED, ALONE] {
        let folder = with_checker(from);
        let Some(mut open) = open(folder.path()) else { return };
        assert!(open.backend.facts().safety_checker);
        let pictures = pictures();
        let (shown, want): (Vec<&Picture>, Vec<bool>) = pictures.iter().map(|(shown, flag)| (shown, *flag)).unzip();
        assert_eq!(open.backend.judge(&shown).unwrap(), want, "{from}");
        for (picture, flag) in &pictures {
            assert_eq!(open.backend.judge(&[picture]).unwrap(), [*flag], "{from}");
        }
        let many: Vec<&Picture> = shown.iter().copied().cycle().take(19).collect();
        let wanted: Vec<bool> = want.iter().copied().cycle().take(19).collect();
        assert_eq!(open.backend.judge(&many).unwrap(), wanted, "more than one call holds, {from}");
        assert!(open.backend.judge(&[]).unwrap().is_empty());
    }
}

#[test]
fn a_folder_without_a_checker_serves_and_gives_no_verdict() {
    let Some(mut open) = open(&model("tiny-lcm-onnx")) else { return };
    assert!(!open.backend.facts().safety_checker);
    let judged = open.backend.judge(&[&noisy(9, (64, 64))]);
    assert!(matches!(judged, Err(BackendError::NoChecker)), "{judged:?}");
}

#[tokio::test]
async fn an_engine_on_a_model_blackens_what_its_checker_flags_among_people_of_all_sizes() {
    let Some(places) = places() else { return };
    let folder = with_checker(PUBLISHED);
    let settings = EngineSettings {
        model: Some(folder.path().to_owned()),
        warm_up_px: NonZeroU32::new(64).unwrap(),
        max_batch: NonZeroUsize::new(4).unwrap(),
        ..EngineSettings::default()
    };
    let theirs = settings.clone();
    let engine = Engine::start(settings, move |progress| onnx::open(&theirs, &places, progress));
    within(engine.ready()).await.unwrap();
    let Some(mut judge) = open(folder.path()) else { return };
    let (mut black, mut shown) = (0, 0);
    // What the miniature paints is no brighter than its input, but every seed has another brightness.
    let sizes = [(64, 64), (128, 64), (64, 64), (64, 128)];
    let jobs: Vec<Job> = (0..12)
        .map(|seed| {
            let picture = noisy(if seed % 2 == 0 { 250 } else { 5 }, sizes[seed % 4]);
            Job { picture, steps: 2, safety: SafetyCheck::Skipped, ..job(seed as u64) }
        })
        .collect();
    let plain: Vec<_> = jobs.iter().map(|job| engine.submit(job.clone()).unwrap()).collect();
    let wanted = |job: &Job| Job { safety: SafetyCheck::Wanted, ..job.clone() };
    let checked: Vec<_> = jobs.iter().map(|job| engine.submit(wanted(job)).unwrap()).collect();
    for (plain, checked) in plain.into_iter().zip(checked) {
        let (plain, checked) = (plain.await.unwrap(), checked.await.unwrap());
        assert_eq!(plain.flagged, [false], "nobody asked");
        let flags = judge.backend.judge(&[&plain.pictures[0]]).unwrap();
        assert_eq!(checked.flagged, flags);
        if flags[0] {
            black += 1;
            assert!(checked.pictures[0].rgb().iter().all(|byte| *byte == 0));
            let size = |picture: &Picture| (picture.width(), picture.height());
            assert_eq!(size(&checked.pictures[0]), size(&plain.pictures[0]));
        } else {
            shown += 1;
            let worst =
                checked.pictures[0].rgb().iter().zip(plain.pictures[0].rgb()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst <= Some(1), "a check changes no picture: {worst:?}");
        }
    }
    assert!(black > 0 && shown > 0, "{black} black and {shown} shown: the test has to see both");
    engine.close();
    engine.ended().await;
}

fn refused(folder: &Path) -> Option<String> {
    let opened = OnnxBackend::open(&OnnxSettings::cpu(folder), &places()?, &LoadProgress::silent());
    Some(opened.unwrap_err().to_string())
}

#[test]
fn a_graph_that_is_no_checker_is_refused_at_start_and_explained_by_an_inspection() {
    let Some(places) = places() else { return };
    let folder = with_checker("tiny-lcm-onnx/vae_encoder");
    let want = "safety_checker cannot serve: it has no output of bool such as has_nsfw_concepts, only latent_parameters (float32)";
    assert_eq!(refused(folder.path()).unwrap(), want);
    let report = inspect(folder.path(), &places, Compare::Sizes);
    assert!(!report.serves && report.problems == [want], "{report}");
    // A download that was cut off.
    let folder = with_checker(PUBLISHED);
    let graph = folder.path().join("safety_checker/model.onnx");
    let bytes = std::fs::read(&graph).unwrap();
    std::fs::write(&graph, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(
        refused(folder.path()).unwrap(),
        "safety_checker cannot be opened: its model.onnx is cut off or no ONNX graph"
    );
    // Settings of another preparation.
    let folder = with_checker(ALONE);
    std::fs::create_dir(folder.path().join("feature_extractor")).unwrap();
    let settings = folder.path().join("feature_extractor/preprocessor_config.json");
    std::fs::write(settings, r#"{"resample": 2}"#).unwrap();
    let want = "feature_extractor cannot serve: resample is 2, not 3, the bicubic filter";
    assert_eq!(refused(folder.path()).unwrap(), want);
    assert_eq!(inspect(folder.path(), &places, Compare::Sizes).problems, [want]);
}

#[test]
fn an_inspection_shows_the_checker_or_says_that_there_is_none() {
    let Some(places) = places() else { return };
    let folder = with_checker(PUBLISHED);
    let report = inspect(folder.path(), &places, Compare::Sizes);
    assert!(report.serves, "{report}");
    let text = report.to_string();
    for want in ["safety_checker", "clip_input", "has_nsfw_concepts", "flagged pictures become black"] {
        assert!(text.contains(want), "{want} is not in\n{text}");
    }
    let text = inspect(&model("tiny-lcm-onnx"), &places, Compare::Sizes).to_string();
    assert!(text.contains("none: host.without_safety_checker decides"), "{text}");
    // Weights for torch alone.
    let folder = assembled(&[]);
    std::fs::create_dir(folder.path().join("safety_checker")).unwrap();
    std::fs::write(folder.path().join("safety_checker/model.safetensors"), "x").unwrap();
    let report = inspect(folder.path(), &places, Compare::Sizes);
    assert!(report.serves && report.to_string().contains("safety_checker has no model.onnx"), "{report}");
}

/// A configuration that serves a model.
fn serving(model: &Path) -> String {
    let route = "[[route]]\nendpoint = \"fal-ai/lcm-sd15-i2i\"\nto = \"engine\"\n";
    format!("[engine]\nenabled = true\nmodel = {model:?}\nwarm_up_px = 64\n{route}")
}

#[tokio::test]
async fn the_program_says_at_start_that_its_model_has_no_checker_and_what_follows() {
    for (more, what) in [("", "served unchecked"), ("[host]\nwithout_safety_checker = \"refuse\"\n", "refused")] {
        let mut gate = Program::start(&format!("{more}{}", serving(&model("tiny-lcm-onnx"))), &[]);
        let line = gate.says("has no safety checker").await;
        assert!(line.contains("WARN") && line.contains(what) && line.contains("host.without_safety_checker"), "{line}");
    }
}

#[tokio::test]
async fn the_program_answers_with_black_pictures_where_the_checker_of_its_model_says_so() {
    let Some(places) = places() else { return };
    let folder = with_checker(PUBLISHED);
    let library = places.find().unwrap().path.display().to_string();
    let mut gate = Program::start(&serving(folder.path()), &[("ORT_DYLIB_PATH", &library)]);
    let address = gate.address().await;
    gate.says("engine ready").await;
    assert!(!gate.said().contains("has no safety checker"));
    let (mut line, mut seen) = (Line::to(address).await, [0; 2]);
    for seed in 0..12 {
        let picture = noisy(if seed % 2 == 0 { 250 } else { 5 }, (64, 64));
        let mut png = std::io::Cursor::new(Vec::new());
        let pixels = image::RgbImage::from_raw(64, 64, picture.into_rgb()).unwrap();
        pixels.write_to(&mut png, image::ImageFormat::Png).unwrap();
        let uri = data_uri("image/png", png.get_ref());
        let input = serde_json::json!({
            "prompt": "a", "image_url": uri, "seed": seed, "sync_mode": true, "format": "png", "num_inference_steps": 2
        });
        let answer =
            line.send(asked(Method::POST, APP, &[("content-type", "application/json")], input.to_string())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let flagged = answer.json()["nsfw_content_detected"][0].as_bool().unwrap();
        assert_eq!(first_picture(&answer).pixels().all(|pixel| pixel.0 == [0; 3]), flagged);
        seen[usize::from(flagged)] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?} clean and flagged: the test has to see both");
}
