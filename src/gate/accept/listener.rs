//! The listening socket.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::settings::LimitSettings;

/// A TCP socket that listens.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
}

impl Listener {
    /// Binds and listens. Port 0 takes a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// What the system says, for example that the address is in use.
    pub fn bind(address: SocketAddr, limits: &LimitSettings) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(limits.backlog.get()).unwrap_or(i32::MAX))?;
        Ok(Self { inner: TcpListener::from_std(socket.into())? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.inner.accept().await?;
        // A head and its body in one segment each: answers are small and waiting for more costs a round trip.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }
}
