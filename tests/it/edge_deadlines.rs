//! Row "slow headers / silent connect / slow body / slow reader" of the security table, on paused time.

use std::num::NonZeroU64;
use std::time::Duration;

use falgate::gate::accept::LimitSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, advance, sleep};

use crate::edge_probe::{dateless, in_memory, read_until};

const BUFFER: usize = 64 * 1024;

fn ms(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).unwrap()
}

fn limits() -> LimitSettings {
    LimitSettings {
        head_ms: ms(10_000),
        idle_ms: ms(60_000),
        body_idle_ms: ms(20_000),
        write_idle_ms: ms(20_000),
        pace_grace_ms: ms(30_000),
        least_bytes_per_s: 100,
        ..LimitSettings::default()
    }
}

async fn rest(client: &mut DuplexStream) -> String {
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Sends `piece` every `every` until the gate has closed; gives back its answer and the time that took.
async fn dribble(client: DuplexStream, piece: &'static [u8], every: Duration) -> (String, Duration) {
    let started = Instant::now();
    let (mut read, mut write) = tokio::io::split(client);
    let sender = tokio::spawn(async move {
        while write.write_all(piece).await.is_ok() {
            sleep(every).await;
        }
    });
    let mut answer = Vec::new();
    read.read_to_end(&mut answer).await.unwrap();
    let took = started.elapsed();
    sender.abort();
    (String::from_utf8(answer).unwrap(), took)
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_without_a_word() {
    let (mut client, served) = in_memory(&limits(), BUFFER);
    let started = Instant::now();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(started.elapsed().as_secs(), 10);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_has_one_deadline_however_its_bytes_are_spread() {
    let (client, served) = in_memory(&limits(), BUFFER);
    let (answer, took) = dribble(client, b"X", Duration::from_secs(1)).await;
    let body = r#"{"detail":"request head came too slowly","message":"request head came too slowly"}"#;
    assert_eq!(
        dateless(&answer),
        format!(
            "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    );
    // Ten for the head; up to two more for a client that does not stop sending.
    assert!((10..=12).contains(&took.as_secs()), "{took:?}");
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_second_head_has_a_deadline_too() {
    let (mut client, served) = in_memory(&limits(), BUFFER);
    client.write_all(b"GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_until(&mut client, "GET /one [host] ").await;
    let (answer, took) = dribble(client, b"X", Duration::from_secs(3)).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!((10..=12).contains(&took.as_secs()), "{took:?}");
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_is_parked_and_serves_on_until_its_idle_time_is_over() {
    let (mut client, served) = in_memory(&limits(), BUFFER);
    for wait in [0, 59, 30, 59] {
        sleep(Duration::from_secs(wait)).await;
        client.write_all(b"GET /again HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        read_until(&mut client, "GET /again [host] ").await;
    }
    let started = Instant::now();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(started.elapsed().as_secs(), 60);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_is_given_up() {
    let (mut client, served) = in_memory(&limits(), BUFFER);
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
    let started = Instant::now();
    let answer = rest(&mut client).await;
    assert!(!answer.contains("half"), "{answer}");
    assert!((20..=22).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dribbles_below_the_least_pace_is_given_up() {
    let (mut client, served) = in_memory(&limits(), BUFFER);
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
    let (_, took) = dribble(client, b"0123456789", Duration::from_secs(1)).await;
    // Thirty seconds of grace, and a tenth of a second for each second's ten bytes.
    assert!((30..=36).contains(&took.as_secs()), "{took:?}");
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_above_the_least_pace_is_taken() {
    let (mut client, served) = in_memory(&limits(), BUFFER);
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 12000\r\n\r\n")
        .await
        .unwrap();
    for _ in 0..12 {
        sleep(Duration::from_secs(5)).await;
        client.write_all(&[b'x'; 1000]).await.unwrap();
    }
    assert!(rest(&mut client).await.ends_with(&"x".repeat(12000)));
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_is_given_up() {
    let (mut client, served) = in_memory(&limits(), BUFFER);
    client.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let started = Instant::now();
    served.await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_reader_below_the_least_pace_is_given_up() {
    let (mut client, served) = in_memory(&limits(), 256);
    client.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let started = Instant::now();
    let reader = tokio::spawn(async move {
        let mut bytes = [0; 16];
        while client.read_exact(&mut bytes).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    served.await.unwrap();
    assert!((30..=60).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    reader.abort();
}

#[tokio::test(start_paused = true)]
async fn half_a_preface_of_http2_has_the_deadline_of_a_head() {
    let (mut client, served) = in_memory(&limits(), BUFFER);
    client.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
    let started = Instant::now();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(started.elapsed().as_secs() <= 12);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_ended_between_two_requests() {
    let (mut client, served) = in_memory(&LimitSettings { age_s: 30, ..limits() }, BUFFER);
    client.write_all(b"GET /young HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_until(&mut client, "GET /young [host] ").await;
    advance(Duration::from_secs(31)).await;
    assert_eq!(rest(&mut client).await, "");
    served.await.unwrap();
}
