//! The order of the layers. This is the only place that has one.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Extensions, Request, Response};
use tower::{ServiceBuilder, ServiceExt as _};
use tower_service::Service;

use super::accept::RefusalLayer;
use super::layers::{CatchPanic, MarkId, MarkOrigin, Origins};
use crate::guard::{ClientAddr, ClientAddrLayer, PeerAddr};
use crate::telemetry::{Counted, LogSubject, LoggedBody, RequestLogLayer};
use crate::wire::{Body, RequestId};

/// What the layers around the routes are made of.
#[derive(Debug, Clone)]
pub struct Layers {
    /// Who is behind a trusted proxy.
    pub client_addr: ClientAddrLayer,
    /// The one line per request, and its numbers.
    pub log: RequestLogLayer,
    /// The gate's own origin.
    pub origins: Arc<Origins>,
}

/// Puts the layers around the routes, outermost first:
///
/// 1. request id: everything after it, refusals and panics too, can be found in the log by it;
/// 2. client address, counted from the right over trusted hops: the log line and every later limit need it;
/// 3. request log: sees all that follows, and ends with the body;
/// 4. catch panic: inside the log, so that a panic has its line;
/// 5. refusals of the connection: what was no clean HTTP goes no further;
/// 6. the gate's origin, for URLs that are handed out;
/// 7. the routes, and behind each door what differs by door: the pages that may call (files may be read by all of them),
///    access keys, body limits and policies. A preflight ends at the door, before anybody is asked who they are.
pub fn stack<S>(
    layers: &Layers,
    routes: S,
) -> impl Service<Request<Body>, Response = Response<LoggedBody<Body>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
+ use<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let origins = Arc::clone(&layers.origins);
    let inner = ServiceBuilder::new()
        .layer_fn(CatchPanic)
        .layer(RefusalLayer)
        .layer_fn(move |inner| MarkOrigin::new(inner, Arc::clone(&origins)))
        .service(routes)
        .map_request(|request: Request<Counted<Body>>| request.map(|body| body.into_inner().unwrap_or_else(Body::new)));
    ServiceBuilder::new().layer_fn(MarkId).layer(layers.client_addr.clone()).layer(layers.log.clone()).service(inner)
}

/// What the request log says of the caller.
pub(super) fn subject(extensions: &Extensions) -> LogSubject {
    let peer = || extensions.get::<PeerAddr>().map(|peer| peer.0.ip().to_canonical());
    LogSubject {
        request_id: extensions.get::<RequestId>().map(RequestId::header),
        client: extensions.get::<ClientAddr>().map(|client| client.0).or_else(peer),
    }
}
