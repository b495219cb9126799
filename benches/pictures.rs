//! What pictures cost on their way in and out: `cargo bench --bench pictures`.

use std::hint::black_box;
use std::io::Cursor;

use criterion::{BenchmarkId, Criterion};
use falgate::engine::Picture;
use falgate::host::pictures::{
    Chroma, PictureSettings, PictureText, decode, encode, plan_sizes, read_picture_text, resize,
};
use falgate::wire::PictureFormat;
use image::{ImageFormat, Rgb, RgbImage};

/// A picture with smooth parts, edges and grain, as photographs have them.
fn photograph(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = ((x as f32 / 37.0).sin() * 60.0 + (y as f32 / 23.0).cos() * 60.0) as i32;
        let edge = if (x / 64 + y / 48) % 2 == 0 { 40 } else { 0 };
        let grain = ((x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) >> 13) as i32 % 12;
        let level = |base: i32| (base + wave + edge + grain).clamp(0, 255) as u8;
        Rgb([level(128), level(100), level(80)])
    })
}

fn file(side: u32, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    photograph(side, side).write_to(&mut file, format).expect("a Vec takes everything");
    file.into_inner()
}

fn picture(side: u32) -> Picture {
    Picture::new(side, side, photograph(side, side).into_raw()).expect("right length")
}

fn decoding(criterion: &mut Criterion) {
    let settings = PictureSettings::default();
    let mut group = criterion.benchmark_group("decode");
    for side in [512, 1024] {
        for (name, format) in [("jpeg", ImageFormat::Jpeg), ("png", ImageFormat::Png), ("webp", ImageFormat::WebP)] {
            let file = file(side, format);
            group.bench_with_input(BenchmarkId::new(name, side), &file, |bench, file| {
                bench.iter(|| decode(black_box(file), &settings));
            });
        }
    }
    group.finish();
}

fn unwrapping(criterion: &mut Criterion) {
    let body = base64_simd::STANDARD.encode_to_string(file(512, ImageFormat::Png));
    let plain = format!("data:image/png;base64,{body}");
    let broken: String =
        plain.as_bytes().chunks(76).flat_map(|line| [line, b"\r\n"].concat()).map(char::from).collect();
    let mut group = criterion.benchmark_group("data_uri");
    for (name, uri) in [("plain", plain), ("line_breaks", broken)] {
        group.bench_function(name, |bench| {
            bench.iter(|| match read_picture_text(black_box(&uri), u64::MAX) {
                Ok(PictureText::Inline(bytes)) => bytes.len(),
                Ok(PictureText::Url) | Err(_) => 0,
            });
        });
    }
    group.finish();
}

fn fitting(criterion: &mut Criterion) {
    let settings = PictureSettings::default();
    criterion.bench_function("plan_sizes", |bench| {
        bench.iter(|| plan_sizes(black_box((700, 500)), 64, &settings));
    });
    let mut group = criterion.benchmark_group("resize");
    for (name, from, to) in [("halve", 1024, 512), ("snap", 500, 512), ("same", 512, 512)] {
        let picture = picture(from);
        group.bench_function(name, |bench| {
            bench.iter_with_setup(|| picture.clone(), |picture| resize(picture, (to, to)));
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let half = PictureSettings::default();
    let full = PictureSettings { jpeg_chroma: Chroma::Full, ..half.clone() };
    let picture = picture(512);
    let mut group = criterion.benchmark_group("encode_512");
    for (name, format, settings) in [
        ("jpeg_half", PictureFormat::Jpeg, &half),
        ("jpeg_full", PictureFormat::Jpeg, &full),
        ("png", PictureFormat::Png, &half),
    ] {
        group.bench_function(name, |bench| bench.iter(|| encode(black_box(&picture), format, settings)));
    }
    let encoded = encode(&picture, PictureFormat::Jpeg, &half);
    group.bench_function("data_uri", |bench| bench.iter(|| black_box(&encoded).to_data_uri()));
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    decoding(&mut criterion);
    unwrapping(&mut criterion);
    fitting(&mut criterion);
    encoding(&mut criterion);
    criterion.final_summary();
}
