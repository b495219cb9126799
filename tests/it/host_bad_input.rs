//! Bad input, one row each: every row has a clear answer, and the host serves on.

use http::Method;
use image::ImageFormat;
use serde_json::{Value, json};

use falgate::wire::HostClass;

use crate::host_desk::{APP, Answer, Desk, call, data_uri, encoded, input, input_with, png};

/// Status, type of the first fault (or `-` where the detail is a sentence), and a part of what is said.
type Want = (u16, &'static str, &'static str);

fn check(name: &str, answer: &Answer, want: Want) {
    let body = answer.json();
    assert_eq!(answer.status.as_u16(), want.0, "{name}: {body}");
    assert_eq!(answer.header("content-type"), "application/json", "{name}");
    let (kind, said) = match &body["detail"] {
        Value::String(text) => ("-", text.clone()),
        detail => (detail[0]["type"].as_str().unwrap(), format!("{} {}", detail[0]["msg"], detail[0]["ctx"])),
    };
    assert_eq!(kind, want.1, "{name}: {body}");
    assert!(said.contains(want.2), "{name}: {said}");
    assert!(answer.body.len() < 2000, "{name}: the answer echoes too much");
}

#[tokio::test]
async fn bad_json_has_a_clear_answer() {
    let desk = Desk::open().await;
    let deep = "[".repeat(5000);
    let rows: [(&str, &str, &[u8], Want); 19] = [
        ("no body", "application/json", b"", (422, "missing", "Field required")),
        ("blank body", "application/json", b" \r\n\t", (422, "missing", "Field required")),
        ("no body and a wrong type", "text/plain", b"", (422, "missing", "Field required")),
        ("cut off", "application/json", b"{\"prompt\":\"a", (422, "json_invalid", "Unterminated string")),
        ("no JSON", "application/json", b"hello", (422, "json_invalid", "Expecting value")),
        ("single quotes", "application/json", b"{'prompt':1}", (422, "json_invalid", "property name")),
        ("trailing comma", "application/json", b"{\"a\":1,}", (422, "json_invalid", "railing comma")),
        ("two values", "application/json", b"{} {}", (422, "json_invalid", "Extra data")),
        ("NaN", "application/json", b"{\"strength\":NaN}", (422, "json_invalid", "Expecting value")),
        ("an overflow", "application/json", b"{\"strength\":1e999}", (422, "json_invalid", "number out of range")),
        ("broken UTF-8", "application/json", b"{\"prompt\":\"\xff\xfe\"}", (422, "json_invalid", "JSON decode error")),
        (
            "a lone surrogate",
            "application/json",
            b"{\"prompt\":\"\\ud800\"}",
            (422, "json_invalid", "JSON decode error"),
        ),
        ("a list", "application/json", b"[]", (422, "model_attributes_type", "valid dictionary")),
        ("null", "application/json", b"null", (422, "model_attributes_type", "valid dictionary")),
        ("a string", "application/json", b"\"prompt\"", (422, "model_attributes_type", "valid dictionary")),
        ("too deep", "application/json", deep.as_bytes(), (422, "json_invalid", "recursion limit")),
        ("plain text", "text/plain", b"{}", (415, "-", "application/json, not text/plain")),
        ("a form", "application/x-www-form-urlencoded", b"prompt=a", (415, "-", "application/json")),
        ("a file form", "multipart/form-data; boundary=x", b"--x", (415, "-", "application/json")),
    ];
    for (name, content_type, body, want) in rows {
        let mut request = call(HostClass::Run, &Method::POST, APP, body.to_vec());
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        check(name, &desk.send(request).await, want);
    }
    let mut untyped = call(HostClass::Run, &Method::POST, APP, input().to_string());
    untyped.headers_mut().remove("content-type");
    assert_eq!(desk.send(untyped).await.status, 200, "no announced type counts as JSON");
}

#[tokio::test]
async fn bad_fields_have_a_clear_answer() {
    let desk = Desk::open().await;
    let rows: [(Value, Want); 32] = [
        (json!({ "prompt": null }), (422, "string_type", "valid string")),
        (json!({ "prompt": 5 }), (422, "string_type", "valid string")),
        (json!({ "prompt": ["a"] }), (422, "string_type", "valid string")),
        (json!({ "image_url": null }), (422, "string_type", "valid string")),
        (json!({ "image_url": true }), (422, "string_type", "valid string")),
        (json!({ "prompt": "ä".repeat(10_001) }), (422, "string_too_long", "{\"max_length\":10000}")),
        (json!({ "negative_prompt": "x".repeat(1 << 20) }), (422, "string_too_long", "at most 10000 characters")),
        (json!({ "request_id": "x".repeat(1001) }), (422, "string_too_long", "{\"max_length\":1000}")),
        (json!({ "strength": 1.0001 }), (422, "less_than_equal", "less than or equal to 1")),
        (json!({ "strength": "1.5" }), (422, "less_than_equal", "{\"le\":1.0}")),
        (json!({ "strength": -0.1 }), (422, "greater_than_equal", "{\"ge\":0.0}")),
        (json!({ "strength": "half" }), (422, "float_parsing", "unable to parse string as a number")),
        (json!({ "strength": "NaN" }), (422, "finite_number", "finite number")),
        (json!({ "strength": "inf" }), (422, "finite_number", "finite number")),
        (json!({ "strength": [0.5] }), (422, "float_type", "valid number")),
        (json!({ "guidance_scale": 16.5 }), (422, "less_than_equal", "less than or equal to 16")),
        (json!({ "guidance_scale": -1 }), (422, "greater_than_equal", "greater than or equal to 0")),
        (json!({ "num_inference_steps": 0 }), (422, "greater_than_equal", "{\"ge\":1}")),
        (json!({ "num_inference_steps": 13 }), (422, "less_than_equal", "{\"le\":12}")),
        (json!({ "num_inference_steps": 1e18 }), (422, "less_than_equal", "less than or equal to 12")),
        (json!({ "num_inference_steps": 2.5 }), (422, "int_from_float", "fractional part")),
        (json!({ "num_inference_steps": "two" }), (422, "int_parsing", "unable to parse string as an integer")),
        (json!({ "num_inference_steps": false }), (422, "greater_than_equal", "greater than or equal to 1")),
        (json!({ "num_images": 9 }), (422, "less_than_equal", "less than or equal to 8")),
        (json!({ "num_images": -3 }), (422, "greater_than_equal", "greater than or equal to 1")),
        (json!({ "seed": 1.5 }), (422, "int_from_float", "fractional part")),
        (json!({ "seed": {} }), (422, "int_type", "valid integer")),
        (json!({ "sync_mode": 2 }), (422, "bool_parsing", "unable to interpret input")),
        (json!({ "sync_mode": "maybe" }), (422, "bool_parsing", "unable to interpret input")),
        (json!({ "request_id": 7 }), (422, "string_type", "valid string")),
        (json!({ "format": "tiff" }), (422, "literal_error", "'jpeg' or 'png'")),
        (json!({ "mask_url": "https://a.example/m.png" }), (422, "feature_not_supported", "Masks")),
    ];
    for (change, want) in rows {
        check(&change.to_string(), &desk.run(&input_with(change)).await, want);
    }
}

#[tokio::test]
async fn odd_but_usable_fields_are_taken() {
    let desk = Desk::open().await;
    for change in [
        json!({ "seed": u64::MAX }),
        json!({ "seed": -1 }),
        json!({ "seed": 1e20 }),
        json!({ "seed": "123456789012345678901234567890" }),
        json!({ "seed": true }),
        json!({ "num_images": true }),
        json!({ "strength": 0, "num_inference_steps": "1.0" }),
        json!({ "strength": true, "sync_mode": "YES" }),
        json!({ "prompt": "" }),
        json!({ "prompt": "\u{0}\u{1f600} \u{202e}" }),
        json!({ "mask_url": "" }),
        json!({ "enable_safety_checker": "off", "enable_safety_checks": 0 }),
        json!({ "format": "PNG" }),
    ] {
        let answer = desk.run(&input_with(change.clone())).await;
        assert_eq!(answer.status, 200, "{change}: {:?}", answer.body);
    }
}

#[tokio::test]
async fn bad_pictures_have_a_clear_answer() {
    let desk = Desk::open().await;
    let good = png(64, 64);
    let jpeg = encoded(64, 64, ImageFormat::Jpeg);
    let cut = |bytes: &[u8], length: usize| data_uri("image/png", &bytes[..length]);
    let zero_sides = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0; 17]].concat();
    let rows: Vec<(&str, String, Want)> = vec![
        ("empty", String::new(), (422, "image_load_error", "it is empty")),
        ("blank", "  \n ".to_owned(), (422, "image_load_error", "it is empty")),
        ("no comma", "data:image/png;base64".to_owned(), (422, "image_load_error", "neither")),
        ("no data", "data:image/png;base64,".to_owned(), (422, "image_load_error", "it is empty")),
        ("no base64", "data:image/png;base64,@@@@".to_owned(), (422, "image_load_error", "base64 is broken")),
        ("odd base64", "data:image/png;base64,A".to_owned(), (422, "image_load_error", "base64 is broken")),
        ("a word", "cat.png".to_owned(), (422, "image_load_error", "neither")),
        ("a blob URL", "blob:https://page.example/1".to_owned(), (422, "image_load_error", "neither")),
        ("a file URL", "file:///etc/passwd".to_owned(), (422, "image_load_error", "neither")),
        ("an ftp URL", "ftp://a.example/x.png".to_owned(), (422, "image_load_error", "neither")),
        ("no host", "http://".to_owned(), (422, "image_load_error", "no URL")),
        ("a password", "https://u:pw@a.example/x".to_owned(), (422, "image_load_error", "credentials")),
        ("a port", "http://a.example:22/x".to_owned(), (422, "image_load_error", "port")),
        ("text", data_uri("image/png", b"hello world, no picture"), (422, "image_load_error", "no JPEG")),
        ("svg", data_uri("image/svg+xml", b"<svg xmlns='x'/>"), (422, "image_load_error", "no JPEG")),
        ("bmp", data_uri("image/bmp", b"BM\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), (422, "image_load_error", "no JPEG")),
        ("a PNG head", cut(&good, 20), (422, "image_load_error", "broken PNG")),
        ("half a PNG", cut(&good, good.len() / 2), (422, "image_load_error", "broken PNG")),
        ("a JPEG head", cut(&jpeg, 4), (422, "image_load_error", "broken JPEG")),
        ("a GIF head", data_uri("", b"GIF89a\x08\0\x08\0\0\0\0"), (422, "image_load_error", "broken GIF")),
        ("a WebP head", data_uri("", b"RIFF\x10\0\0\0WEBPVP8 "), (422, "image_load_error", "broken WebP")),
        ("no pixels", data_uri("", &zero_sides), (422, "image_load_error", "it is empty")),
    ];
    for (name, uri, want) in rows {
        let answer = desk.run(&input_with(json!({ "image_url": uri }))).await;
        check(name, &answer, want);
        assert_eq!(answer.json()["detail"][0]["loc"], json!(["body", "image_url"]), "{name}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("u:pw"), "{name}");
    }
    assert_eq!(desk.run(&input()).await.status, 200);
}
