//! TLS: certificate and key from PEM files, read again on reload without dropping a connection.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::settings::TlsSettings;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate file cannot be read or holds none.
    #[error("no certificate in {file} (gate.tls.cert_file)")]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What went wrong; absent when the file is empty.
        #[source]
        cause: Option<rustls::pki_types::pem::Error>,
    },
    /// The key file cannot be read or holds none.
    #[error("no private key in {file} (gate.tls.key_file)")]
    Key {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        #[source]
        cause: rustls::pki_types::pem::Error,
    },
    /// Certificate and key cannot be used, or not together.
    #[error("certificate and key cannot be used together (gate.tls)")]
    Pair(#[source] rustls::Error),
}

/// Holds the certificate in use. Clones share it.
#[derive(Debug, Clone)]
pub struct TlsKeeper {
    settings: TlsSettings,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl TlsKeeper {
    /// Reads certificate and key. Blocks on the two files: call it at start.
    ///
    /// # Errors
    /// [`TlsError`] names the file at fault.
    pub fn open(settings: TlsSettings) -> Result<Self, TlsError> {
        let current = Arc::new(ArcSwap::from_pointee(read(&settings)?));
        Ok(Self { settings, current })
    }

    /// Reads certificate and key again; new connections use them, open ones go on. Blocks on the two files.
    ///
    /// # Errors
    /// [`TlsError`]; the old pair stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(read(&self.settings)?));
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

fn read(settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
    let no_certificate = |cause| TlsError::Certificate { file: settings.cert_file.clone(), cause };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&settings.cert_file)
        .and_then(Iterator::collect)
        .map_err(|cause| no_certificate(Some(cause)))?;
    if chain.is_empty() {
        return Err(no_certificate(None));
    }
    let key = PrivateKeyDer::from_pem_file(&settings.key_file)
        .map_err(|cause| TlsError::Key { file: settings.key_file.clone(), cause })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
