//! An app's health is public: monitors and clients ask for it without a key.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{Request, Response};
use tower_service::Service;

use super::route_table::{Destination, RouteTable};
use crate::wire::{Body, CallKind, TargetUrl};

/// Leads a question for the health of a hosted app past the access keys, and everything else to them.
///
/// Needs a [`TargetUrl`]. The health of an app at fal is asked with the owner's key and stays behind the access keys.
#[derive(Debug, Clone)]
pub(super) struct PublicHealth<G, O> {
    pub(super) guarded: G,
    pub(super) open: O,
    pub(super) table: Arc<RouteTable>,
}

impl<G, O> PublicHealth<G, O> {
    fn is_public(&self, request: &Request<Body>) -> bool {
        request.extensions().get::<TargetUrl>().is_some_and(|target| {
            target.call().kind == CallKind::Health && self.table.decide(target.call()).to == Destination::Engine
        })
    }
}

impl<G, O> Service<Request<Body>> for PublicHealth<G, O>
where
    G: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    O: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<G::Future, O::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match (self.guarded.poll_ready(cx), self.open.poll_ready(cx)) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if self.is_public(&request) {
            Either::Right(self.open.call(request))
        } else {
            Either::Left(self.guarded.call(request))
        }
    }
}
