//! The model that `make run` paints with: the folder in `models/demo`, opened and run by the engine itself.

use std::num::NonZeroU32;

use falgate::engine::{Engine, EngineSettings, Job, Lane, Order, Picture, Posterior, SafetyCheck, onnx};

use crate::onnx_support::{places, root};

/// A held-out scene: its doodle, the words, and the painting that they stand for at a quarter of its size.
struct Scene {
    doodle: Picture,
    prompt: &'static str,
    painting: image::RgbImage,
}

fn read(name: &str) -> image::RgbImage {
    image::open(root().join("tests/golden/demo").join(name)).unwrap().to_rgb8()
}

fn scene(name: &str, prompt: &'static str) -> Scene {
    let doodle = read(&format!("{name}.doodle.png"));
    let (width, height) = doodle.dimensions();
    let doodle = Picture::new(width, height, doodle.into_raw()).unwrap();
    Scene { doodle, prompt, painting: read(&format!("{name}.painting.png")) }
}

fn scenes() -> [Scene; 4] {
    [
        scene("sunset", "oil painting, sun, sunset, the sea, flying seagulls, 4k"),
        scene(
            "night",
            "boats in the background, mountains in the distance, birds in the sky, watercolour, sea, at night, starry sky",
        ),
        scene("day", "a forest, clouds, houses, mountains, flying seagulls, clear day, flat illustration"),
        scene("storm", "green trees, lighthouse, a cottage, stormy weather, high mountains, pen and ink, art"),
    ]
}

async fn painter() -> Option<Engine> {
    let places = places()?;
    let model = Some(root().join("models/demo"));
    let settings =
        EngineSettings { enabled: true, model, warm_up_px: NonZeroU32::new(64).unwrap(), ..Default::default() };
    let theirs = settings.clone();
    let engine = Engine::start(settings, move |progress| onnx::open(&theirs, &places, progress));
    engine.ready().await.unwrap();
    Some(engine)
}

async fn paint(engine: &Engine, doodle: &Picture, prompt: &str, strength: f64) -> image::RgbImage {
    let job = Job {
        picture: doodle.clone(),
        prompt: prompt.to_owned(),
        strength,
        steps: 2,
        guidance_scale: 8.0,
        seeds: vec![7],
        posterior: Posterior::Mode,
        start_by: None,
        lane: Lane::new(),
        order: Order::InTurn,
        safety: SafetyCheck::Skipped,
    };
    let done = engine.submit(job).unwrap().await.unwrap();
    let picture = &done.pictures[0];
    image::RgbImage::from_raw(picture.width(), picture.height(), picture.rgb().to_vec()).unwrap()
}

/// Mean difference of two pictures at 64×64, in levels.
fn distance(a: &image::RgbImage, b: &image::RgbImage) -> f64 {
    let small = |picture: &image::RgbImage| image::imageops::thumbnail(picture, 64, 64).into_raw();
    let (a, b) = (small(a), small(b));
    a.iter().zip(&b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

fn as_image(picture: &Picture) -> image::RgbImage {
    image::RgbImage::from_raw(picture.width(), picture.height(), picture.rgb().to_vec()).unwrap()
}

fn brightness(picture: &image::RgbImage) -> f64 {
    picture.as_raw().iter().map(|level| f64::from(*level)).sum::<f64>() / picture.as_raw().len() as f64
}

#[tokio::test]
async fn a_painting_is_nearer_to_the_true_one_than_its_doodle() {
    let Some(engine) = painter().await else { return };
    for Scene { doodle, prompt, painting } in scenes() {
        let painted = distance(&paint(&engine, &doodle, prompt, 0.7).await, &painting);
        let drawn = distance(&as_image(&doodle), &painting);
        println!("{prompt}: {drawn:.1} levels as drawn, {painted:.1} as painted");
        assert!(painted < drawn, "{prompt}: {drawn} as drawn, {painted} as painted");
    }
}

#[tokio::test]
async fn words_and_strength_change_the_picture_as_they_say() {
    let Some(engine) = painter().await else { return };
    let doodle = scenes()[2].doodle.clone();
    let night = paint(&engine, &doodle, "green hills, night", 0.7).await;
    let day = paint(&engine, &doodle, "green hills, sunny day", 0.7).await;
    assert!(
        brightness(&night) + 40.0 < brightness(&day),
        "{} at night, {} by day",
        brightness(&night),
        brightness(&day)
    );
    let mut moved = Vec::new();
    for strength in [0.2, 0.4, 0.6] {
        moved.push(distance(&paint(&engine, &doodle, "green hills, night", strength).await, &as_image(&doodle)));
    }
    assert!(moved.is_sorted(), "{moved:?}");
}

#[tokio::test]
async fn every_size_is_painted() {
    let Some(engine) = painter().await else { return };
    let small = as_image(&scenes()[0].doodle);
    for (width, height) in [(512, 512), (320, 192), (64, 128)] {
        let large = image::imageops::thumbnail(&small, width, height);
        let doodle = Picture::new(width, height, large.clone().into_raw()).unwrap();
        let painted = paint(&engine, &doodle, "sunset", 0.6).await;
        assert_eq!(painted.dimensions(), (width, height));
        assert!(distance(&painted, &large) < 90.0, "{width}x{height}");
    }
}
