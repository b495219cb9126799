//! Pictures of every kind come upright, opaque and in colour, and bombs are refused while they are small.

use std::io::Cursor;

use falgate::host::pictures::{Chroma, PictureError, PictureSettings, decode, encode, plan_sizes, resize};
use falgate::wire::PictureFormat;
use image::{DynamicImage, GrayAlphaImage, ImageFormat, LumaA, Rgba, RgbaImage};
use serde_json::json;

use crate::host_desk::{Desk, data_uri, encoded, first_picture, input_with, png, sample};

fn written(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn read(bytes: &[u8]) -> falgate::engine::Picture {
    decode(bytes, &PictureSettings::default()).unwrap()
}

/// Mean difference of a channel between a decoded file and the sample that it was made of.
fn distance(bytes: &[u8], width: u32, height: u32) -> u32 {
    let picture = read(bytes);
    assert_eq!((picture.width(), picture.height()), (width, height));
    let sum: u32 =
        picture.rgb().iter().zip(sample(width, height).as_raw()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    sum.div_ceil(picture.rgb().len() as u32)
}

#[test]
fn every_encoding_gives_the_same_picture() {
    assert_eq!(distance(&png(70, 50), 70, 50), 0);
    assert_eq!(distance(&encoded(70, 50, ImageFormat::WebP), 70, 50), 0);
    assert!(distance(&encoded(70, 50, ImageFormat::Jpeg), 70, 50) <= 4);
    assert!(distance(&encoded(70, 50, ImageFormat::Gif), 70, 50) <= 8);
}

#[test]
fn deep_grey_and_palette_pictures_become_plain_colour() {
    let sample = DynamicImage::ImageRgb8(sample(40, 30));
    let deep = read(&written(sample.to_rgb16(), ImageFormat::Png));
    assert_eq!(deep.rgb(), sample.to_rgb8().as_raw().as_slice());
    for grey in [written(sample.to_luma8(), ImageFormat::Png), written(sample.to_luma16(), ImageFormat::Png)] {
        let want = DynamicImage::ImageLuma8(sample.to_luma8()).to_rgb8();
        let off = read(&grey).rgb().iter().zip(want.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(off <= Some(1));
    }
    let grey_jpeg = read(&written(sample.to_luma8(), ImageFormat::Jpeg));
    assert!(grey_jpeg.rgb().chunks(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
}

#[test]
fn a_cmyk_jpeg_becomes_rgb() {
    // Plain red: no cyan, full magenta and yellow, no black. The encoder stores it inverted, as Adobe does.
    let ink: Vec<u8> = [0_u8, 255, 255, 0].repeat(16 * 16);
    for kind in [jpeg_encoder::ColorType::Cmyk, jpeg_encoder::ColorType::CmykAsYcck] {
        let mut file = Vec::new();
        jpeg_encoder::Encoder::new(&mut file, 95).encode(&ink, 16, 16, kind).unwrap();
        let pixel = read(&file).rgb()[..3].to_vec();
        assert!(pixel[0] > 200 && pixel[1] < 60 && pixel[2] < 60, "{kind:?} gives {pixel:?}");
    }
}

#[test]
fn what_is_transparent_lies_on_white() {
    let glass = RgbaImage::from_fn(3, 1, |x, _| Rgba([0, 100, 200, [0, 128, 255][x as usize]]));
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        assert_eq!(read(&written(glass.clone(), format)).rgb(), [255, 255, 255, 127, 177, 227, 0, 100, 200]);
    }
    let grey = GrayAlphaImage::from_pixel(1, 1, LumaA([0, 0]));
    assert_eq!(read(&written(grey, ImageFormat::Png)).rgb(), [255, 255, 255]);
    let mut gif = Vec::new();
    let mut writer = image::codecs::gif::GifEncoder::new(&mut gif);
    writer.encode_frame(image::Frame::new(RgbaImage::from_pixel(2, 2, Rgba([9, 9, 9, 0])))).unwrap();
    drop(writer);
    assert_eq!(read(&gif).rgb(), [255; 12]);
}

#[test]
fn of_an_animation_the_first_frame_counts() {
    let mut gif = Vec::new();
    let mut writer = image::codecs::gif::GifEncoder::new(&mut gif);
    for colour in [[255, 0, 0, 255], [0, 0, 255, 255]] {
        writer.encode_frame(image::Frame::new(RgbaImage::from_pixel(4, 4, Rgba(colour)))).unwrap();
    }
    drop(writer);
    assert_eq!(read(&gif).rgb()[..3], [255, 0, 0]);
}

#[test]
fn a_photograph_is_turned_upright() {
    // Orientation 6: the camera was turned, rotate by 90 degrees clockwise to show.
    let exif =
        [&b"Exif\0\0II*\0\x08\0\0\0\x01\0"[..], &[0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0], &[0, 0, 0, 0]].concat();
    let mut file = Vec::new();
    let mut writer = jpeg_encoder::Encoder::new(&mut file, 100);
    writer.add_app_segment(1, exif).unwrap();
    let left_white: Vec<u8> = (0..32 * 16).flat_map(|at| if at % 32 < 16 { [255; 3] } else { [0; 3] }).collect();
    writer.encode(&left_white, 32, 16, jpeg_encoder::ColorType::Rgb).unwrap();
    let picture = read(&file);
    assert_eq!((picture.width(), picture.height()), (16, 32));
    assert!(picture.rgb()[0] > 200 && *picture.rgb().last().unwrap() < 50, "what was left is on top");
}

/// A PNG head that claims a size, with a valid checksum and nothing behind it.
fn png_bomb(width: u32, height: u32) -> Vec<u8> {
    let mut head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    head.extend(width.to_be_bytes());
    head.extend(height.to_be_bytes());
    head.extend([8, 6, 0, 0, 0]);
    let mut crc = u32::MAX;
    for byte in &head[12..] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    head.extend((!crc).to_be_bytes());
    head.extend(b"\0\0\0\x04IDAT\x78\x9c\0\0\0\0\0\0");
    head
}

fn gif_bomb() -> Vec<u8> {
    b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;".to_vec()
}

/// A lossy WebP of 16383 by 16383 pixels; with a canvas of one pixel in front where `lying`.
fn webp_bomb(lying: bool) -> Vec<u8> {
    let mut chunks: Vec<u8> = Vec::new();
    if lying {
        chunks.extend(b"VP8X\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
    chunks.extend(b"VP8 \x0a\0\0\0\x10\0\0\x9d\x01\x2a\xff\x3f\xff\x3f");
    let mut file = b"RIFF".to_vec();
    file.extend((chunks.len() as u32 + 4).to_le_bytes());
    file.extend(b"WEBP");
    file.extend(chunks);
    file
}

fn jpeg_bomb() -> Vec<u8> {
    let mut file = encoded(16, 16, ImageFormat::Jpeg);
    let at = file.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    file[at + 5..at + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    file
}

#[test]
fn bombs_are_refused_by_their_headers() {
    let settings = PictureSettings::default();
    for (name, bomb) in [
        ("PNG 30000x30000", png_bomb(30_000, 30_000)),
        ("PNG 4294967295x1", png_bomb(u32::MAX, u32::MAX)),
        ("GIF 65535x65535", gif_bomb()),
        ("JPEG 65535x65535", jpeg_bomb()),
        ("WebP 16383x16383", webp_bomb(false)),
        ("WebP that lies about its size", webp_bomb(true)),
    ] {
        let refused = decode(&bomb, &settings).unwrap_err();
        assert!(matches!(refused, PictureError::TooManyPixels { .. }), "{name}: {refused}");
    }
}

#[tokio::test]
async fn a_bomb_is_a_422_that_tells_its_size() {
    let desk = Desk::open().await;
    let uri = data_uri("image/png", &png_bomb(30_000, 30_000));
    let fault = desk.run(&input_with(json!({ "image_url": uri }))).await.fault();
    assert_eq!(fault["type"], "image_too_large");
    assert!(fault["msg"].as_str().unwrap().contains("30000x30000"), "{fault}");
}

#[test]
fn more_bytes_than_the_limit_are_not_looked_at() {
    let settings = PictureSettings { max_input_bytes: 100.try_into().unwrap(), ..PictureSettings::default() };
    assert!(matches!(decode(&png(64, 64), &settings), Err(PictureError::TooManyBytes { limit: 100 })));
}

#[tokio::test]
async fn every_format_and_size_comes_back_at_its_own_size() {
    let desk = Desk::open().await;
    for (width, height, format) in [
        (1, 1, ImageFormat::Png),
        (33, 7, ImageFormat::Jpeg),
        (200, 300, ImageFormat::WebP),
        (65, 64, ImageFormat::Gif),
    ] {
        let uri = data_uri("application/x-wrong", &encoded(width, height, format));
        let answer = desk.run(&input_with(json!({ "image_url": uri }))).await;
        assert_eq!(first_picture(&answer).dimensions(), (width, height), "{format:?}");
    }
}

#[tokio::test]
async fn base64_without_a_data_uri_around_it_is_taken() {
    let desk = Desk::open().await;
    let bare = base64_simd::STANDARD.encode_to_string(png(64, 64));
    for change in [json!({ "image_url": bare }), json!({ "image_bytes": bare, "image_url": null })] {
        assert_eq!(desk.run(&input_with(change)).await.status, 200);
    }
}

#[test]
fn an_answer_is_what_the_settings_say() {
    let picture = read(&png(64, 48));
    let settings = PictureSettings::default();
    let half = encode(&picture, PictureFormat::Jpeg, &settings);
    let full =
        encode(&picture, PictureFormat::Jpeg, &PictureSettings { jpeg_chroma: Chroma::Full, ..settings.clone() });
    assert!(half.bytes.len() < full.bytes.len());
    let exact = encode(&picture, PictureFormat::Png, &settings);
    assert_eq!(image::load_from_memory(&exact.bytes).unwrap().into_rgb8().as_raw().as_slice(), picture.rgb());
    for (file, start) in [(half, "data:image/jpeg;base64,/9j/"), (exact, "data:image/png;base64,iVBOR")] {
        assert!(file.to_data_uri().starts_with(start));
    }
}

#[test]
fn there_and_back_a_picture_stays_the_same_picture() {
    let picture = read(&png(700, 500));
    let sizes = plan_sizes((700, 500), 64, &PictureSettings::default());
    let there = resize(picture.clone(), sizes.working);
    assert_eq!((there.width(), there.height()), (704, 512));
    let back = resize(there, sizes.output);
    let worst = back.rgb().iter().zip(picture.rgb()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(worst <= 8, "off by {worst}");
}
