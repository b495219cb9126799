//! The strict framer and hyper agree on every valid request, however its bytes are cut.

use falgate::gate::accept::LimitSettings;
use falgate::gate::accept::framing::{Framer, HeadLimits};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::edge_probe::{dateless, in_memory, plain_hyper};

#[derive(Debug, Clone)]
struct Valid {
    method: &'static str,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    chunks: Option<usize>,
}

impl Valid {
    fn write(&self, last: &str) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\nHost: gate.test\r\n{last}", self.method, self.target).into_bytes();
        for (name, value) in &self.fields {
            out.extend_from_slice(format!("x-{name}:{value}\r\n").as_bytes());
        }
        match self.chunks {
            None if self.body.is_empty() => out.extend_from_slice(b"\r\n"),
            None => {
                out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
                out.extend_from_slice(&self.body);
            }
            Some(size) => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in self.body.chunks(size) {
                    out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
        }
        out
    }
}

fn valid() -> impl Strategy<Value = Valid> {
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "PATCH"]);
    let fields = prop::collection::vec(("[a-z0-9-]{1,8}", "[ -~]{0,20}"), 0..5);
    let body = prop::collection::vec(b'a'..=b'z', 0..300);
    (method, "/[a-zA-Z0-9._~%+-]{0,20}(\\?[a-z0-9=&]{0,20})?", fields, body, prop::option::of(1_usize..100))
        .prop_map(|(method, target, fields, body, chunks)| Valid { method, target, fields, body, chunks })
}

/// Sends `bytes` in pieces that end at `cuts`, and reads until the other side has closed.
async fn talk(mut client: tokio::io::DuplexStream, bytes: &[u8], cuts: &[prop::sample::Index]) -> String {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut from = 0;
    for end in ends {
        client.write_all(&bytes[from..end]).await.unwrap();
        tokio::task::yield_now().await;
        from = end;
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    dateless(&answer)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn valid_requests_get_the_answers_that_plain_hyper_gives(
        requests in prop::collection::vec(valid(), 1..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let last = requests.len() - 1;
        let bytes: Vec<u8> = requests.iter().enumerate()
            .flat_map(|(at, request)| request.write(if at == last { "connection: close\r\n" } else { "" }))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (strict, plain) = runtime.block_on(async {
            let (client, _) = in_memory(&LimitSettings::default(), 64 * 1024);
            let strict = talk(client, &bytes, &cuts).await;
            (strict, talk(plain_hyper(), &bytes, &cuts).await)
        });
        prop_assert_eq!(strict.matches("HTTP/1.1 200 OK").count(), requests.len(), "{}", strict);
        prop_assert_eq!(strict, plain);
    }

    #[test]
    fn no_bytes_at_all_confuse_the_framer(
        bytes in prop::collection::vec(any::<u8>(), 0..600), cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let mut framer = Framer::new(HeadLimits { bytes: 256, target_bytes: 64, fields: 8 });
        let (mut handed, mut seen, mut pieces) = (0, 0, cuts.iter().cycle());
        while seen < bytes.len() {
            seen = (seen + pieces.next().unwrap()).min(bytes.len());
            while let Ok(taken) = framer.admit(&bytes[handed..seen]) {
                prop_assert!(taken.bytes <= seen - handed);
                handed += taken.bytes;
                if taken.bytes == 0 {
                    break;
                }
            }
        }
    }
}
