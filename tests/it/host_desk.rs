//! A host over a fake engine, and the requests that tests put to it.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use falgate::engine::{Engine, EngineSettings, FakeBackend, FakeControl, FakeSettings};
use falgate::host::fetch::{FetchSettings, Fetcher, Resolve, Resolving};
use falgate::host::storage::FilesService;
use falgate::host::{HostService, HostSettings};
use falgate::telemetry::CallNote;
use falgate::wire::{
    AllowedTargets, Body, Door, EndpointPattern, HostClass, PlainPath, PublicOrigin, TargetSettings, collect,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) const ORIGIN: &str = "https://draw.example:8443";
pub(crate) const APP: &str = "/fal-ai/lcm-sd15-i2i";

/// A host, its engine, and the strings that move the fake device.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) host: HostService,
    pub(crate) files: FilesService,
    pub(crate) engine: Engine,
    pub(crate) control: FakeControl,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) note: Option<CallNote>,
}

impl Answer {
    pub(crate) async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = collect(body, 1 << 30).await.unwrap();
        let note = parts.extensions.get::<CallNote>().cloned();
        Self { status: parts.status, headers: parts.headers, body, note }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The one entry of a 422 list.
    pub(crate) fn fault(&self) -> Value {
        assert_eq!(self.status, 422, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json");
        let detail = self.json()["detail"].clone();
        assert_eq!(detail.as_array().map(Vec::len), Some(1), "{detail}");
        detail[0].clone()
    }
}

impl Desk {
    pub(crate) async fn open() -> Self {
        Self::with(HostSettings::default()).await
    }

    pub(crate) async fn with(settings: HostSettings) -> Self {
        let fetcher = Fetcher::with_resolver(settings.fetch.clone(), Arc::new(Names::default())).unwrap();
        Self::with_fetcher(settings, fetcher).await
    }

    pub(crate) async fn with_fetcher(settings: HostSettings, fetcher: Fetcher) -> Self {
        let (opened, control) = FakeBackend::open(FakeSettings::default().with_checker(255));
        let engine = EngineSettings { queue: 1.try_into().unwrap(), ..EngineSettings::default() };
        let engine = Engine::start(engine, move |_| Ok(opened));
        engine.ready().await.unwrap();
        control.clear();
        let host = HostService::with_fetcher(engine.clone(), settings, fetcher);
        Self { files: host.files(), host, engine, control }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::read(self.host.clone().oneshot(request).await.unwrap()).await
    }

    pub(crate) async fn run(&self, input: &Value) -> Answer {
        self.send(call(HostClass::Run, &Method::POST, APP, input.to_string())).await
    }

    pub(crate) async fn file(&self, method: Method, url: &str, body: impl Into<Body>) -> Answer {
        let path = url.strip_prefix(ORIGIN).unwrap_or(url);
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        Answer::read(self.files.clone().oneshot(request).await.unwrap()).await
    }

    pub(crate) async fn initiate(&self, body: &Value) -> Answer {
        self.send(call(HostClass::Rest, &Method::POST, "/storage/upload/initiate", body.to_string())).await
    }
}

/// A plain call as the gate hands it on: admitted, with its public origin.
pub(crate) fn call(class: HostClass, method: &Method, path: &str, body: impl Into<Body>) -> Request<Body> {
    let plain = PlainPath { class, legacy_label: None, method, path_and_query: path, door: Door::Http };
    admitted(&plain, body.into())
}

/// A call as it comes at any door.
pub(crate) fn admitted(plain: &PlainPath<'_>, body: Body) -> Request<Body> {
    let endpoints = vec![EndpointPattern::parse("**").unwrap()];
    let settings = TargetSettings { endpoints, tokens: true, storage: true, webhooks: true };
    let target = AllowedTargets::new(settings).admit_path(plain).unwrap();
    let mut request = Request::builder().method(plain.method).uri(plain.path_and_query).body(body).unwrap();
    if *request.method() != Method::GET {
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    }
    request.extensions_mut().insert(target);
    request.extensions_mut().insert(PublicOrigin(ORIGIN.to_owned()));
    request
}

/// Names that a test makes up; all others have no address.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) known: HashMap<String, Vec<IpAddr>>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn of(pairs: &[(&str, &[&str])]) -> Arc<Self> {
        let known = pairs
            .iter()
            .map(|(name, addresses)| {
                ((*name).to_owned(), addresses.iter().map(|address| address.parse().unwrap()).collect())
            })
            .collect();
        Arc::new(Self { known, asked: Mutex::default() })
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        self.asked.lock().unwrap().push(host.to_owned());
        let found = self.known.get(host).cloned();
        Box::pin(async move { found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)) })
    }
}

/// Fetch settings that let tests dial this machine at `port`.
pub(crate) fn loopback(port: u16) -> FetchSettings {
    let allow_networks = vec!["127.0.0.0/8".parse().unwrap()];
    FetchSettings { ports: vec![80, 443, port], allow_networks, ..FetchSettings::default() }
}

/// A picture that is not flat, so that sizes and orders show.
pub(crate) fn sample(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, 90]))
}

pub(crate) fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut file = io::Cursor::new(Vec::new());
    sample(width, height).write_to(&mut file, format).unwrap();
    file.into_inner()
}

pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    encoded(width, height, ImageFormat::Png)
}

pub(crate) fn data_uri(mime: &str, bytes: &[u8]) -> String {
    format!("data:{mime};base64,{}", base64_simd::STANDARD.encode_to_string(bytes))
}

/// A small valid input; tests change what they are about.
pub(crate) fn input() -> Value {
    json!({ "prompt": "a cat", "image_url": data_uri("image/png", &png(64, 64)), "seed": 42, "sync_mode": true })
}

/// `input()` with some fields changed; null takes a field out.
pub(crate) fn input_with(changes: Value) -> Value {
    let mut input = input();
    let fields = input.as_object_mut().unwrap();
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    fields.extend(changes);
    input
}

/// The first picture of an answer, out of its data URI.
pub(crate) fn first_picture(answer: &Answer) -> RgbImage {
    let output = answer.json();
    let uri = output["images"][0]["url"].as_str().unwrap_or_else(|| panic!("{output}")).to_owned();
    let bytes = base64_simd::STANDARD.decode_to_vec(uri.split_once(',').unwrap().1).unwrap();
    image::load_from_memory(&bytes).unwrap().into_rgb8()
}
