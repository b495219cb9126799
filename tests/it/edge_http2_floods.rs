//! Row "HTTP/2: rapid reset, CONTINUATION, HPACK bomb, window stall, ping/settings floods" of the security table: each
//! flood meets a bound, and others are served meanwhile.

use std::time::Duration;

use falgate::gate::accept::LimitSettings;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

use crate::edge_probe::{Gate, in_memory};
use crate::http2_wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GET, GOAWAY, HEADERS, PING, POST, PREFACE,
    RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, frame, goaways, next, polite, raw,
};

#[tokio::test]
async fn a_rapid_reset_flood_ends_the_connection() {
    let (mut client, served) = raw(&LimitSettings::default()).await;
    let mut flood = Vec::new();
    for stream in (1..4001).step_by(2) {
        flood.extend(frame(HEADERS, WHOLE, stream, &GET));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    // The gate may be gone before all of it is written.
    let _ = client.write_all(&flood).await;
    assert!(goaways(client).await.contains(&ENHANCE_YOUR_CALM));
    served.await.unwrap();
}

/// Errors of the client's own making, each answered with a reset: the flood that followed rapid reset.
#[tokio::test]
async fn a_flood_of_streams_that_we_must_reset_ends_the_connection() {
    let (client, served) = raw(&LimitSettings::default()).await;
    let (read, mut write) = tokio::io::split(client);
    let reading = tokio::spawn(goaways(read));
    for stream in (1..4001).step_by(2) {
        let past = frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
        if write.write_all(&[frame(HEADERS, END_HEADERS, stream, &POST), past].concat()).await.is_err() {
            break;
        }
    }
    assert!(reading.await.unwrap().contains(&ENHANCE_YOUR_CALM));
    served.await.unwrap();
}

#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let (mut client, served) = raw(&LimitSettings::default()).await;
    let mut flood = frame(HEADERS, END_STREAM, 1, &GET);
    let field = [&[0x40, 0x01, b'x', 0x7f, 0x81, 0x01][..], &[b'y'; 256]].concat();
    for _ in 0..2000 {
        flood.extend(frame(CONTINUATION, 0, 1, &field));
    }
    let _ = client.write_all(&flood).await;
    assert!(goaways(client).await.contains(&ENHANCE_YOUR_CALM));
    served.await.unwrap();
}

#[tokio::test]
async fn a_flood_of_empty_continuations_ends_the_connection() {
    let (mut client, served) = raw(&LimitSettings::default()).await;
    let flood = frame(CONTINUATION, 0, 1, &[]).repeat(2000);
    let _ = client.write_all(&[frame(HEADERS, END_STREAM, 1, &GET), flood].concat()).await;
    assert!(goaways(client).await.contains(&ENHANCE_YOUR_CALM));
    served.await.unwrap();
}

/// A field of four kilobytes goes into the table once, and is named again `times` with one byte each: 63, for the host that
/// went in after it.
fn header_bomb(times: usize) -> Vec<u8> {
    let large = [&[0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
    let first = frame(HEADERS, WHOLE, 1, &[&GET[..], &large].concat());
    let bomb = frame(HEADERS, WHOLE, 3, &[&GET[..], &vec![0xbf; times]].concat());
    [first, bomb].concat()
}

#[tokio::test]
async fn a_head_that_unfolds_past_its_limit_is_a_431_and_the_connection_serves_on() {
    let (mut client, served) = raw(&LimitSettings::default()).await;
    client.write_all(&[header_bomb(12), frame(HEADERS, WHOLE, 5, &GET)].concat()).await.unwrap();
    let mut heads = std::collections::BTreeMap::new();
    while heads.len() < 3 {
        let came = next(&mut client).await.expect("the connection goes on");
        assert_ne!(came.kind, GOAWAY, "{came:?}");
        if came.kind == HEADERS {
            heads.insert(came.stream, came.payload);
        }
    }
    assert_eq!((heads[&1][0], heads[&5][0]), (0x88, 0x88), "200 before and after");
    // No table holds 431: the index of `:status`, three bytes in Huffman's code.
    assert_eq!((heads[&3][0] & 0x0f, heads[&3][1]), (0x08, 0x83), "{:?}", heads[&3]);
    drop(client);
    served.await.unwrap();
}

#[tokio::test]
async fn a_header_bomb_ends_the_connection() {
    // 64 MB of head in 16 KB.
    let (mut client, served) = raw(&LimitSettings::default()).await;
    client.write_all(&header_bomb(16_000)).await.unwrap();
    assert!(goaways(client).await.contains(&ENHANCE_YOUR_CALM));
    served.await.unwrap();
}

#[tokio::test]
async fn a_header_table_beyond_what_was_offered_ends_the_connection() {
    let (mut client, served) = raw(&LimitSettings::default()).await;
    // A size update to a megabyte.
    let head = [&[0x3f, 0xe1, 0xff, 0x3f][..], &GET].concat();
    client.write_all(&frame(HEADERS, WHOLE, 1, &head)).await.unwrap();
    assert_eq!(goaways(client).await, [1]);
    served.await.unwrap();
}

/// Floods until the gate takes no more; how many bytes it took.
async fn flood(mut write: impl AsyncWrite + Unpin, piece: &[u8]) -> usize {
    let many = piece.repeat(1024);
    let mut taken = 0;
    while let Ok(bytes) = write.write(&many).await {
        taken += bytes;
    }
    taken
}

/// Frames that must be answered, by a client that reads no answer: nothing is queued for it, and it is cut.
async fn deaf(piece: Vec<u8>) {
    let limits = LimitSettings::default();
    let (mut client, served) = in_memory(&limits, 64 * 1024);
    client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    let started = Instant::now();
    let taken = flood(&mut client, &piece).await;
    assert!(taken < 1024 * 1024, "the gate took {taken} bytes that it could not answer");
    let patience = limits.write_idle_ms.get() / 1000;
    assert!((patience..=patience + 2).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_settings_flood_that_reads_no_answer_is_cut() {
    deaf(frame(SETTINGS, 0, 0, &[])).await;
}

#[tokio::test(start_paused = true)]
async fn a_ping_flood_that_reads_no_answer_is_cut() {
    deaf(frame(PING, 0, 0, b"8 bytes.")).await;
}

/// Sends `piece` every second and reads everything; the time until the gate ends the connection.
async fn seconds_bought(piece: Vec<u8>) -> u64 {
    let (client, served) = raw(&LimitSettings::default()).await;
    let started = Instant::now();
    let (mut read, mut write) = tokio::io::split(client);
    let sending = tokio::spawn(async move {
        while write.write_all(&piece).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    while next(&mut read).await.is_some() {}
    served.await.unwrap();
    sending.abort();
    started.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn pings_and_settings_buy_a_quiet_connection_no_time() {
    // The last ones acknowledge what the gate sent, as far as it sent anything.
    for piece in [frame(PING, 0, 0, b"8 bytes."), frame(SETTINGS, 0, 0, &[]), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])]
    {
        let took = seconds_bought(piece.clone()).await;
        assert!(took <= 110, "{piece:?}: {took} s");
    }
}

#[tokio::test]
async fn a_flood_of_empty_pieces_of_a_body_ends_the_connection() {
    let (mut client, served) = raw(&LimitSettings::default()).await;
    let begin = frame(HEADERS, END_HEADERS, 1, &POST);
    let flood = frame(DATA, 0, 1, &[]).repeat(200_000);
    let _ = client.write_all(&[begin, flood].concat()).await;
    assert!(goaways(client).await.contains(&ENHANCE_YOUR_CALM));
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_window_that_stays_shut_ends_the_connection() {
    let (mut client, served) = raw(&LimitSettings::default()).await;
    // `GET /big`; the answer has 8 MiB, the window 64 KiB, and nobody opens it. Pings are answered.
    let path = [&[0x82, 0x86, 0x41, 0x01, b'a', 0x44, 0x04][..], b"/big"].concat();
    client.write_all(&frame(HEADERS, WHOLE, 1, &path)).await.unwrap();
    let started = Instant::now();
    let polite = tokio::spawn(polite(client));
    served.await.unwrap();
    // Thirty seconds of patience, and as long for others on the connection to finish.
    assert!((60..=80).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    polite.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_ended() {
    let (client, served) = raw(&LimitSettings::default()).await;
    let started = Instant::now();
    served.await.unwrap();
    assert!(started.elapsed() <= Duration::from_secs(110), "{:?}", started.elapsed());
    drop(client);
}

/// Sends a body on stream 1 in `pieces` of ten bytes, one every `pause`, to a gate with default limits; when stream 1 is
/// answered or reset.
async fn slow_body(pieces: usize, pause: Duration) -> Duration {
    let (client, _served) = raw(&LimitSettings::default()).await;
    let (mut read, mut write) = tokio::io::split(client);
    write.write_all(&frame(HEADERS, END_HEADERS, 1, &POST)).await.unwrap();
    let started = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..pieces {
            if write.write_all(&frame(DATA, 0, 1, b"0123456789")).await.is_err() {
                return;
            }
            sleep(pause).await;
        }
        // Stays, and answers nothing.
        std::future::pending::<()>().await;
    });
    loop {
        let came = next(&mut read).await.expect("the connection outlives the stream");
        assert_ne!(came.kind, GOAWAY, "{came:?}");
        if came.stream == 1 && matches!(came.kind, HEADERS | RST_STREAM) {
            assert!(came.kind == RST_STREAM || came.payload[0] == 0x8c, "reset, or 400: {came:?}");
            break;
        }
    }
    sending.abort();
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_costs_its_stream() {
    let took = slow_body(1, Duration::ZERO).await;
    assert!((15..=31).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dribbles_below_the_least_pace_costs_its_stream() {
    let took = slow_body(1000, Duration::from_millis(500)).await;
    assert!((15..=20).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn others_are_served_while_one_address_floods() {
    use tokio::net::TcpStream;
    let gate = Gate::start(&LimitSettings::default());
    let mut floods = Vec::new();
    let endless = [frame(PING, 0, 0, b"8 bytes."), frame(SETTINGS, 0, 0, &[]), frame(PING, ACK, 0, b"8 bytes.")];
    for piece in endless {
        let mut socket = TcpStream::connect(gate.address).await.unwrap();
        socket.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        floods.push(tokio::spawn(async move {
            let (mut read, write) = socket.into_split();
            tokio::join!(async { while next(&mut read).await.is_some() {} }, flood(write, &piece));
        }));
    }
    for _ in 0..5 {
        let answer = gate.probe("GET /alive HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(answer.ends_with("GET /alive [connection host] "), "{answer}");
    }
    for flood in floods {
        flood.abort();
    }
}
