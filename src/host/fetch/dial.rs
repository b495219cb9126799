//! Connections to addresses that were checked, and to no others.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{FetchError, FetchSettings, FetchSetupError, FetchUrl, Resolve, is_public};

/// Time for one address before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

pub(super) type Connection = Pin<Box<dyn Stream>>;

/// Resolves, checks every address, then connects to a checked one: the name is looked up once, so that a second answer
/// of a hostile name server is never used.
pub(super) async fn dial(
    url: &FetchUrl,
    resolver: &dyn Resolve,
    settings: &FetchSettings,
    tls: &TlsConnector,
) -> Result<Connection, FetchError> {
    let addresses = match url.literal() {
        Some(address) => vec![address],
        None => resolver.resolve(url.host()).await.map_err(FetchError::Resolve)?,
    };
    if addresses.is_empty() {
        return Err(FetchError::Resolve(io::Error::from(io::ErrorKind::NotFound)));
    }
    let admitted = |address: &IpAddr| {
        is_public(*address) || settings.allow_networks.iter().any(|network| network.contains(&address.to_canonical()))
    };
    if !addresses.iter().all(admitted) {
        return Err(FetchError::NotPublic);
    }
    let stream = connect(&addresses, url.port()).await.map_err(FetchError::Connect)?;
    if !url.is_tls() {
        return Ok(Box::pin(stream));
    }
    let name = ServerName::try_from(url.host().to_owned()).map_err(|_| FetchError::Url("its host is no name"))?;
    let stream = tls.connect(name, stream).await.map_err(FetchError::Connect)?;
    Ok(Box::pin(stream))
}

async fn connect(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let attempt = TcpStream::connect(SocketAddr::new(*address, port));
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(last)
}

/// TLS that trusts the web's authorities and those of `ca_file`.
pub(super) fn tls(ca_file: Option<&Path>) -> Result<TlsConnector, FetchSetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        add_authorities(&mut roots, path).map_err(|cause| FetchSetupError::CaFile { path: path.to_owned(), cause })?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(FetchSetupError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    if roots.len() == before {
        return Err("it holds no certificate".into());
    }
    Ok(())
}
