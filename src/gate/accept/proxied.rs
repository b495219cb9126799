//! The header of the PROXY protocol, with which a load balancer says for whom it opens a connection: read before
//! anything else, TLS too, and never a byte beyond it.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// How the second version begins; the first begins with `PROXY `.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = SIGNATURE.len() + 4;
/// The longest line of the first version, its end included.
const MOST_LINE: usize = 107;
/// The longest header of the second version that is read: addresses take 216 bytes at most, the rest is for extensions.
const MOST_BINARY: usize = 4096;
/// `LOCAL`, version 2: the balancer speaks for itself, and what follows is to be skipped.
const LOCAL: u8 = 0x20;

/// Why a connection has no header that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderFault {
    /// The other end does not begin with one, or with one that cannot be read.
    #[error("no header of the PROXY protocol")]
    Malformed,
    /// It is longer than any that is sent in earnest.
    #[error("a header of the PROXY protocol of {bytes} bytes")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It ends, or cannot be read.
    #[error("the header of the PROXY protocol breaks off")]
    Broken(#[from] io::Error),
}

/// Reads a header of either version: whose connection it is, or nothing where the balancer speaks for itself or for
/// somebody without an address of the internet (`LOCAL`, `UNKNOWN`, a socket of its machine).
pub(super) async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, HeaderFault> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        read_binary(stream, &mut header).await?;
        if header[SIGNATURE.len()] == LOCAL {
            return Ok(None);
        }
    } else if header.starts_with(b"PROXY ") {
        read_line(stream, &mut header).await?;
    } else {
        return Err(HeaderFault::Malformed);
    }
    source(&header)
}

async fn read_binary(stream: &mut TcpStream, header: &mut Vec<u8>) -> Result<(), HeaderFault> {
    header.resize(FIXED, 0);
    stream.read_exact(&mut header[SIGNATURE.len()..]).await?;
    let bytes = FIXED + usize::from(u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]));
    if bytes > MOST_BINARY {
        return Err(HeaderFault::TooLong { bytes });
    }
    header.resize(bytes, 0);
    stream.read_exact(&mut header[FIXED..]).await?;
    Ok(())
}

/// Reads up to the end of the line, which is looked for before it is taken out of the system's buffer.
async fn read_line(stream: &mut TcpStream, header: &mut Vec<u8>) -> Result<(), HeaderFault> {
    while !header.ends_with(b"\n") {
        let room = MOST_LINE - header.len();
        if room == 0 {
            return Err(HeaderFault::TooLong { bytes: MOST_LINE });
        }
        let mut seen = [0; MOST_LINE];
        let count = stream.peek(&mut seen[..room]).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let end = seen[..count].iter().position(|byte| *byte == b'\n');
        let take = end.map_or(count, |end| end + 1);
        let before = header.len();
        header.resize(before + take, 0);
        stream.read_exact(&mut header[before..]).await?;
    }
    Ok(())
}

/// What a whole header says.
fn source(header: &[u8]) -> Result<Option<SocketAddr>, HeaderFault> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let (parsed, used) = ProxyHeader::parse(header, config).map_err(|_| HeaderFault::Malformed)?;
    if used != header.len() {
        return Err(HeaderFault::Malformed);
    }
    match parsed.proxied_address() {
        None => Ok(None),
        Some(proxied) if proxied.protocol == Protocol::Stream => Ok(Some(proxied.source)),
        Some(_) => Err(HeaderFault::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_says_whose_connection_it_is_or_is_none() {
        let told = |line: &str| source(line.as_bytes()).ok().map(|source| source.map(|at| at.to_string()));
        assert_eq!(told("PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n"), Some(Some("192.0.2.7:4711".to_owned())));
        assert_eq!(told("PROXY TCP6 2001:db8::7 ::1 4711 443\r\n"), Some(Some("[2001:db8::7]:4711".to_owned())));
        assert_eq!(told("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), Some(None));
        for line in [
            "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\rx\n",
            "PROXY TCP4 2001:db8::7 ::1 4711 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 99999 443\r\n",
            "PROXY TCP4 192.0.2.7\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert_eq!(told(line), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_header_are_a_panic(version in any::<u8>(), family in any::<u8>(), rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
            let header = [&SIGNATURE[..], &[version, family], &length, &rest].concat();
            // Whatever it says, an address is only taken from the families that have one.
            if let Ok(Some(_)) = source(&header) {
                prop_assert!(version == 0x21 && (family == 0x11 || family == 0x21));
            }
            let _ = source(&[b"PROXY ", &rest[..]].concat());
        }
    }
}
