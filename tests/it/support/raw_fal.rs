//! A stand-in for fal that answers with bytes as they are, for answers that no proper server gives.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The fake. Every connection gets the same answer to each of its requests.
pub(crate) struct RawFal {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// What follows the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The connection waits for the next request.
    KeepOpen,
    /// The connection ends.
    Close,
}

impl RawFal {
    /// Answers each request with these bytes.
    pub(crate) async fn start(answer: &'static [u8], then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fal = Self { address, connections: Arc::default(), heads: Arc::default() };
        let (connections, heads) = (Arc::clone(&fal.connections), Arc::clone(&fal.heads));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let heads = Arc::clone(&heads);
                tokio::spawn(async move {
                    while let Some(head) = read_request(&mut stream).await {
                        heads.lock().unwrap().push(head);
                        let sent = stream.write_all(answer).await;
                        if sent.is_err() || then == Then::Close {
                            break;
                        }
                    }
                });
            }
        });
        fal
    }

    /// Its base address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far, as they came.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Reads a head and the body that its `content-length` announces.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    Some(head)
}
