//! One connection for one socket: never shared, never pooled.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::error::OpenError;
use crate::upstream::Address;
use crate::upstream::dial::tcp;

/// A connection to fal.
#[derive(Debug)]
pub(super) enum Line {
    /// Without TLS, on this machine.
    Plain(TcpStream),
    /// With TLS. Boxed, so that a plain one does not keep room for it.
    Secure(Box<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>),
}

/// Makes connections that speak HTTP/1.1.
#[derive(Debug, Clone)]
pub(super) struct SocketDialer(HttpsConnector<HttpConnector>);

impl SocketDialer {
    pub(super) fn new(tls: rustls::ClientConfig) -> Self {
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls);
        Self(connector.https_or_http().enable_http1().wrap_connector(tcp()))
    }

    pub(super) async fn dial(&self, to: &Address) -> Result<Line, OpenError> {
        match self.0.clone().call(to.root()).await {
            Ok(MaybeHttpsStream::Http(tcp)) => Ok(Line::Plain(tcp.into_inner())),
            Ok(secure) => Ok(Line::Secure(Box::new(TokioIo::new(secure)))),
            Err(cause) => Err(OpenError::Connect(cause)),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(line) => Pin::new(line).poll_read(cx, buf),
            Self::Secure(line) => Pin::new(line).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(line) => Pin::new(line).poll_write(cx, bytes),
            Self::Secure(line) => Pin::new(line).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(line) => Pin::new(line).poll_flush(cx),
            Self::Secure(line) => Pin::new(line).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(line) => Pin::new(line).poll_shutdown(cx),
            Self::Secure(line) => Pin::new(line).poll_shutdown(cx),
        }
    }
}
