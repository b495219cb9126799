//! `/files/{id}`: takes the bytes of announced uploads, and gives files to whoever knows their id.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tower_service::Service;

use super::{Blob, BlobId, Storage, StorageError};
use crate::wire::{Body, Problem, ToProblem as _};

/// Every stored file is below this path.
pub const FILES_PATH: &str = "/files/";
/// Query field of an upload URL that holds its token.
pub(super) const TOKEN_FIELD: &str = "upload_token";

/// Where files come without an announcement, with a token.
const DIRECT: &str = "upload";
const DIRECT_PARTS: &str = "upload/multipart";
const METHODS: &str = "GET, HEAD, PUT, OPTIONS";
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Media types that a browser may show; all others are only ever saved.
const SHOWN_TYPES: [&str; 5] = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/avif"];

/// Serves everything below [`FILES_PATH`]: `GET`, `HEAD`, `OPTIONS`, and `PUT` with an upload URL's token.
///
/// No key is asked for: the 128 random bits of an id are the right to read, a token the right to write, once. Answers
/// carry `access-control-allow-origin: *`, so that canvases and uploads of any page work; no layer may narrow that.
#[derive(Clone)]
pub struct FilesService {
    pub(super) storage: Storage,
}

impl FilesService {
    pub(super) const fn new(storage: Storage) -> Self {
        Self { storage }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let method = request.method().clone();
        let name = request.uri().path().strip_prefix(FILES_PATH).unwrap_or_default();
        let answer = match id_of(name) {
            None if name == DIRECT && method == Method::POST => {
                self.take_direct(request).await.map_err(|error| error.to_problem())
            }
            None if name.starts_with(DIRECT_PARTS) => {
                Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "this gate takes a file in one piece, not in parts"))
            }
            None => Err(Problem::not_found(request.uri().path())),
            Some(id) => match method {
                Method::GET | Method::HEAD => self.give(id, &method).map_err(|error| error.to_problem()),
                Method::PUT => self.take(id, request).await.map_err(|error| error.to_problem()),
                Method::OPTIONS => Ok(preflight()),
                _ => Err(Problem::method_not_allowed(METHODS)),
            },
        };
        let mut response = answer.unwrap_or_else(Response::from);
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn give(&self, id: BlobId, method: &Method) -> Result<Response<Body>, StorageError> {
        let blob = self.storage.files.get(id).ok_or(StorageError::NotFound)?;
        let body = if *method == Method::HEAD { Body::empty() } else { Body::from(blob.bytes.clone()) };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, blob.content_type.clone());
        headers.insert(CONTENT_LENGTH, HeaderValue::from(blob.bytes.len()));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
        let cache = format!("public, max-age={}, immutable", blob.seconds_left());
        headers.insert(CACHE_CONTROL, HeaderValue::try_from(cache).expect("digits are plain"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
        headers.insert(CONTENT_DISPOSITION, disposition(&blob));
        Ok(response)
    }

    /// Takes an upload. The URL is used up by the first `PUT` that arrives whole; one that breaks off may be repeated.
    async fn take(&self, id: BlobId, request: Request<Body>) -> Result<Response<Body>, StorageError> {
        let token = request.uri().query().and_then(token_of).ok_or(StorageError::BadToken(None))?;
        let grant = self.storage.tokens.check(token, id)?;
        let claim = Claim::take(&self.storage, id)?;
        let limit = self.storage.settings.max_file_bytes.get();
        let (bytes, _held) =
            self.storage.arriving.collect(request.into_body(), limit).await.map_err(StorageError::Body)?;
        let content_type = HeaderValue::try_from(grant.content_type).map_err(|_| StorageError::BadToken(None))?;
        let mut blob = Blob::new(bytes, content_type, grant.life);
        blob.name = grant.name;
        self.storage.files.keep_as(id, blob).map_err(StorageError::Store)?;
        claim.keep();
        Ok(Response::new(Body::empty()))
    }
}

/// The one use of an upload URL; given back when dropped before [`Claim::keep`].
struct Claim<'a> {
    storage: &'a Storage,
    id: BlobId,
    kept: bool,
}

impl<'a> Claim<'a> {
    fn take(storage: &'a Storage, id: BlobId) -> Result<Self, StorageError> {
        if storage.used.entry(id).or_insert(()).is_fresh() {
            Ok(Self { storage, id, kept: false })
        } else {
            Err(StorageError::Used)
        }
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.storage.used.invalidate(&self.id);
        }
    }
}

impl Service<Request<Body>> for FilesService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    // A star does not cover `authorization`, which pages with their own fetch may add.
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*, authorization"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

fn disposition(blob: &Blob) -> HeaderValue {
    let kind = blob.content_type.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or(kind).trim();
    let manner =
        if SHOWN_TYPES.iter().any(|shown| essence.eq_ignore_ascii_case(shown)) { "inline" } else { "attachment" };
    let text = match &blob.name {
        Some(name) => format!("{manner}; filename=\"{name}\""),
        None => manner.to_owned(),
    };
    HeaderValue::try_from(text).expect("names hold plain letters only")
}

fn token_of(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix(TOKEN_FIELD)?.strip_prefix('='))
}

/// The id in what follows the files path: 32 hex digits, perhaps with an ending.
pub(super) fn id_of(name: &str) -> Option<BlobId> {
    BlobId::parse(name.split_once('.').map_or(name, |(id, _)| id)).filter(|_| !name.contains('/'))
}

/// The name of a file below the files path. The ending is for people; nothing believes it.
pub(super) fn file_name(id: BlobId, content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or(content_type).trim();
    let subtype = essence.rsplit('/').next().unwrap_or_default();
    let ending: String = subtype.chars().take_while(char::is_ascii_alphanumeric).take(8).collect();
    match ending.as_str() {
        "" | "octet" => format!("{id}.bin"),
        ending => format!("{id}.{}", ending.to_ascii_lowercase()),
    }
}
