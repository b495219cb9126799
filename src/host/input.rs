//! The input of a run, out of a request.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use serde_json::{Map, Value};

use super::HostError;
use crate::wire::{Body, LcmInput, MemoryBudget, Reserved, fields_of_json, fields_of_query};

/// Reads and checks the input of a run: a JSON body, or the query of a `GET`.
///
/// # Errors
/// [`HostError::Input`] with every fault, [`HostError::ContentType`] for a body that is announced as something else, and
/// [`HostError::Body`] past `limit` bytes or the `memory` of all bodies. What the input fills of it is held by what comes with
/// it.
pub(super) async fn read_input(
    request: Request<Body>,
    limit: u64,
    memory: &MemoryBudget,
) -> Result<(LcmInput, Option<Reserved>), HostError> {
    if request.method() == Method::GET {
        let fields = fields_of_query(request.uri().query().unwrap_or_default());
        let input = LcmInput::from_fields(fields, None).map_err(|mut faults| {
            for fault in &mut faults {
                fault.loc[0] = "query".into();
            }
            HostError::Input(faults)
        });
        return input.map(|input| (input, None));
    }
    let content_type = foreign_type(request.headers());
    let (body, held) = memory.collect(request.into_body(), limit).await.map_err(HostError::Body)?;
    let fields = fields_of(&body, content_type)?;
    Ok((LcmInput::from_fields(fields, None).map_err(HostError::Input)?, Some(held)))
}

fn fields_of(body: &[u8], content_type: Option<String>) -> Result<Map<String, Value>, HostError> {
    match content_type {
        // An empty body is answered for what it is, whatever it was called.
        Some(found) if !body.is_empty() => Err(HostError::ContentType { found }),
        _ => fields_of_json(body).map_err(|fault| HostError::Input(vec![*fault])),
    }
}

/// The announced media type where it is not JSON. No announcement counts as JSON, as with FastAPI.
fn foreign_type(headers: &HeaderMap) -> Option<String> {
    let text = String::from_utf8_lossy(headers.get(CONTENT_TYPE)?.as_bytes()).to_ascii_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let json = essence.is_empty()
        || essence == "application/json"
        || essence.starts_with("application/") && essence.ends_with("+json");
    (!json).then(|| essence.chars().filter(|c| !c.is_control()).take(60).collect())
}
