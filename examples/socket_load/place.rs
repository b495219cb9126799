//! Where a socket is opened: an address of this machine, and what stands in the request.

use std::net::SocketAddr;
use std::str::FromStr;

use super::error::LoadError;

/// A URL of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Address and port.
    pub(crate) address: SocketAddr,
    /// What the `Host` field says.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// What the `Authorization` field says, if there is one.
    pub(crate) authorization: Option<String>,
}

impl Place {
    /// The same path with one more value in its query.
    pub(crate) fn with_query(&self, name: &str, value: &str) -> Self {
        let joint = if self.path.contains('?') { '&' } else { '?' };
        Self { path: format!("{}{joint}{name}={value}", self.path), ..self.clone() }
    }
}

impl Place {
    /// The line of the `Authorization` field, if there is one.
    pub(crate) fn authorization_line(&self) -> String {
        self.authorization.as_ref().map_or_else(String::new, |value| format!("Authorization: {value}\r\n"))
    }
}

impl FromStr for Place {
    type Err = LoadError;

    /// Takes `ws://127.0.0.1:8787/path` and its like with `http`. Any other machine is refused: this program makes load.
    fn from_str(text: &str) -> Result<Self, LoadError> {
        let wrong = || LoadError::Place(text.to_owned());
        let rest = text.strip_prefix("ws://").or_else(|| text.strip_prefix("http://")).ok_or_else(wrong)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address: SocketAddr = host.replace("localhost", "127.0.0.1").parse().map_err(|_| wrong())?;
        if !address.ip().is_loopback() {
            return Err(wrong());
        }
        Ok(Self { address, host: host.to_owned(), path: format!("/{path}"), authorization: None })
    }
}
