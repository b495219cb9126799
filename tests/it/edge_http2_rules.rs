//! The rules of HTTP/2 that a client can break, as h2spec's generic and http2 sections probe them, by frames written by
//! hand. The numbers are RFC 9113's sections. Where the RFC has a finer code, or lets a stream go alone, `h2` may end the
//! connection with PROTOCOL_ERROR: that is allowed, and the table says which it is.

use std::time::Duration;

use falgate::gate::accept::LimitSettings;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::edge_probe::in_memory;
use crate::http2_wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PING, POST, PREFACE, RST_STREAM, SETTINGS,
    WHOLE, WINDOW_UPDATE, field, frame, next, raw,
};

/// What became of stream 1.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused400,
    AnsweredOtherwise,
    Reset(u32),
    /// The whole connection went.
    Gone(u32),
    Silence,
}

use Fate::{Answered, Gone, Refused400, Reset};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;

async fn fate(frames: &[Vec<u8>]) -> Fate {
    let (mut client, _served) = raw(&LimitSettings::default()).await;
    client.write_all(&frames.concat()).await.unwrap();
    let watching = async {
        while let Some(came) = next(&mut client).await {
            match (came.kind, came.stream) {
                (GOAWAY, _) => return Gone(came.code().unwrap()),
                (RST_STREAM, 1) => return Reset(came.code().unwrap()),
                (HEADERS, 1) => {
                    return match came.payload[0] {
                        0x88 => Answered,
                        0x8c => Refused400,
                        _ => Fate::AnsweredOtherwise,
                    };
                }
                _ => {}
            }
        }
        Fate::Silence
    };
    timeout(Duration::from_secs(10), watching).await.unwrap_or(Fate::Silence)
}

async fn fates(cases: Vec<(&str, Vec<Vec<u8>>, Fate)>) {
    let mut wrong = Vec::new();
    for (what, frames, wanted) in cases {
        let came = fate(&frames).await;
        if came != wanted {
            wrong.push(format!("{what}: {came:?}, not {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn get() -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &GET)
}

fn post() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &POST)
}

fn get_with(fields: &[u8]) -> Vec<Vec<u8>> {
    vec![frame(HEADERS, WHOLE, 1, &[&GET[..], fields].concat())]
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

#[tokio::test]
async fn a_sound_request_is_answered_whatever_it_is_wrapped_in() {
    let priority = [&[0, 0, 0, 0, 16][..], &GET].concat();
    let padded = [&[3][..], &GET, &[0; 3]].concat();
    fates(vec![
        ("plain", vec![get()], Answered),
        ("head in two frames", vec![frame(HEADERS, 1, 1, &GET[..3]), frame(CONTINUATION, 4, 1, &GET[3..])], Answered),
        ("with priority (6.2)", vec![frame(HEADERS, WHOLE | 0x20, 1, &priority)], Answered),
        ("padded (6.2)", vec![frame(HEADERS, WHOLE | 0x8, 1, &padded)], Answered),
        ("padded body (6.1)", vec![post(), frame(DATA, 0x8 | END_STREAM, 1, b"\x03ok\0\0\0")], Answered),
        (
            "with trailers (8.1)",
            vec![post(), frame(DATA, 0, 1, b"ok"), frame(HEADERS, WHOLE, 1, &field(b"x", b"y"))],
            Answered,
        ),
        ("te: trailers (8.2.2)", get_with(&field(b"te", b"trailers")), Answered),
        ("unknown frame (4.1)", vec![frame(0xee, 0xff, 0, b"what?"), get()], Answered),
        ("unknown setting (6.5.2)", vec![setting(0xee, 7), get()], Answered),
        ("unknown flags (4.1)", vec![frame(PING, 0xfe, 0, b"8 bytes."), get()], Answered),
        ("priority frame (6.3)", vec![frame(2, 0, 1, &[0, 0, 0, 0, 16]), get()], Answered),
        ("reset of a stream that is done (5.1)", vec![get(), frame(PING, 0, 0, b"8 bytes.")], Answered),
    ])
    .await;
}

#[tokio::test]
async fn pings_are_answered_with_what_they_hold() {
    let (mut client, _served) = raw(&LimitSettings::default()).await;
    client.write_all(&frame(PING, 0, 0, b"8 bytes.")).await.unwrap();
    loop {
        let came = next(&mut client).await.unwrap();
        if came.kind == PING && came.flags == ACK {
            assert_eq!(came.payload, b"8 bytes.");
            break;
        }
    }
}

#[tokio::test]
async fn a_preface_that_goes_wrong_is_no_http2() {
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
        let (mut client, served) = in_memory(&LimitSettings::default(), 64 * 1024);
        client.write_all(bytes).await.unwrap();
        client.write_all(&[frame(SETTINGS, 0, 0, &[]), get()].concat()).await.unwrap();
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut client, &mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 505 "), "{}", answer.escape_ascii());
        served.await.unwrap();
    }
}

#[tokio::test]
async fn frames_that_are_malformed_end_the_connection() {
    let large = vec![b'x'; 16_385];
    fates(vec![
        ("frame beyond the size (4.2)", vec![post(), frame(DATA, 0, 1, &large)], Gone(FRAME_SIZE_ERROR)),
        ("index of nothing (4.3)", get_with(&[0xff, 0x7f]), Gone(PROTOCOL_ERROR)),
        (
            "head cut by a ping (6.10)",
            vec![frame(HEADERS, END_STREAM, 1, &GET), frame(PING, 0, 0, b"8 bytes.")],
            Gone(PROTOCOL_ERROR),
        ),
        (
            "head continued elsewhere (6.10)",
            vec![frame(HEADERS, END_STREAM, 1, &GET), frame(CONTINUATION, 4, 3, &[])],
            Gone(PROTOCOL_ERROR),
        ),
        ("continuation of nothing (6.10)", vec![frame(CONTINUATION, END_HEADERS, 1, &GET)], Gone(PROTOCOL_ERROR)),
        ("data on stream 0 (6.1)", vec![frame(DATA, 0, 0, b"x")], Gone(PROTOCOL_ERROR)),
        ("padding beyond the frame (6.1)", vec![post(), frame(DATA, 0x8, 1, b"\x09ok")], Gone(PROTOCOL_ERROR)),
        (
            "padding beyond the head (6.2)",
            vec![frame(HEADERS, WHOLE | 0x8, 1, &[&[200][..], &GET].concat())],
            Gone(PROTOCOL_ERROR),
        ),
        ("head on stream 0 (6.2)", vec![frame(HEADERS, WHOLE, 0, &GET)], Gone(PROTOCOL_ERROR)),
        ("reset on stream 0 (6.4)", vec![frame(RST_STREAM, 0, 0, &[0, 0, 0, 8])], Gone(PROTOCOL_ERROR)),
        ("reset of three bytes (6.4)", vec![post(), frame(RST_STREAM, 0, 1, &[0, 0, 8])], Gone(PROTOCOL_ERROR)),
        ("settings on a stream (6.5)", vec![frame(SETTINGS, 0, 1, &[])], Gone(PROTOCOL_ERROR)),
        ("settings of five bytes (6.5)", vec![frame(SETTINGS, 0, 0, &[0; 5])], Gone(PROTOCOL_ERROR)),
        ("acknowledged with a payload (6.5)", vec![frame(SETTINGS, ACK, 0, &[0; 6])], Gone(PROTOCOL_ERROR)),
        ("push neither on nor off (6.5.2)", vec![setting(2, 2)], Gone(PROTOCOL_ERROR)),
        ("window beyond 2^31 (6.5.2)", vec![setting(4, 0x8000_0000)], Gone(PROTOCOL_ERROR)),
        ("frame size below the least (6.5.2)", vec![setting(5, 16_383)], Gone(PROTOCOL_ERROR)),
        ("frame size beyond the most (6.5.2)", vec![setting(5, 0x0100_0000)], Gone(PROTOCOL_ERROR)),
        (
            "push from a client (8.4)",
            vec![post(), frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &GET].concat())],
            Gone(PROTOCOL_ERROR),
        ),
        ("ping on a stream (6.7)", vec![frame(PING, 0, 1, b"8 bytes.")], Gone(PROTOCOL_ERROR)),
        ("ping of seven bytes (6.7)", vec![frame(PING, 0, 0, b"7 bytes")], Gone(PROTOCOL_ERROR)),
        ("goodbye on a stream (6.8)", vec![frame(GOAWAY, 0, 1, &[0; 8])], Gone(PROTOCOL_ERROR)),
        ("window update of three bytes (6.9)", vec![frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])], Gone(PROTOCOL_ERROR)),
        ("window update by nothing (6.9)", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 4])], Gone(PROTOCOL_ERROR)),
        (
            "window beyond 2^31 by updates (6.9.1)",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
            Gone(FLOW_CONTROL_ERROR),
        ),
    ])
    .await;
}

#[tokio::test]
async fn streams_go_through_their_states_in_order() {
    let update = |stream| frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
    fates(vec![
        ("data on an idle stream (5.1)", vec![frame(DATA, 0, 1, b"x")], Gone(PROTOCOL_ERROR)),
        ("reset of an idle stream (5.1)", vec![frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])], Gone(PROTOCOL_ERROR)),
        ("window of an idle stream (5.1)", vec![frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])], Gone(PROTOCOL_ERROR)),
        ("an even stream (5.1.1)", vec![frame(HEADERS, WHOLE, 2, &GET)], Gone(PROTOCOL_ERROR)),
        ("streams that go back (5.1.1)", vec![frame(HEADERS, END_HEADERS, 3, &POST), get()], Gone(PROTOCOL_ERROR)),
        (
            "data after the end (5.1)",
            vec![frame(HEADERS, WHOLE, 1, &GET), frame(DATA, 0, 1, b"x")],
            Gone(PROTOCOL_ERROR),
        ),
        ("window of a stream beyond 2^31 (6.9.1)", vec![post(), update(1)], Reset(FLOW_CONTROL_ERROR)),
        (
            "window of a stream by nothing (6.9)",
            vec![post(), frame(WINDOW_UPDATE, 0, 1, &[0; 4])],
            Gone(PROTOCOL_ERROR),
        ),
        (
            "a stream that depends on itself (5.3.1)",
            vec![frame(HEADERS, WHOLE | 0x20, 1, &[&[0, 0, 0, 1, 16][..], &GET].concat())],
            Reset(PROTOCOL_ERROR),
        ),
    ])
    .await;
}

#[tokio::test]
async fn one_stream_more_than_agreed_is_refused() {
    let (mut client, _served) = raw(&LimitSettings::default()).await;
    for stream in (1..203).step_by(2) {
        client.write_all(&frame(HEADERS, END_HEADERS, stream, &POST)).await.unwrap();
    }
    loop {
        let came = next(&mut client).await.unwrap();
        if let Some(code) = came.code() {
            assert_eq!((came.kind, came.stream, code), (RST_STREAM, 201, 7), "REFUSED_STREAM for the one too many");
            break;
        }
    }
}

#[tokio::test]
async fn heads_that_could_mean_two_things_cost_their_stream() {
    let pseudo = |name: &str, value: &str| field(name.as_bytes(), value.as_bytes());
    let whole = |head: &[u8]| vec![frame(HEADERS, WHOLE, 1, head)];
    let with_length =
        |length: &str| frame(HEADERS, END_HEADERS, 1, &[&POST[..], &pseudo("content-length", length)].concat());
    fates(vec![
        ("upper case (8.2.1)", get_with(&field(b"X-Y", b"1")), Gone(PROTOCOL_ERROR)),
        ("space in a name (8.2.1)", get_with(&field(b"x y", b"1")), Gone(PROTOCOL_ERROR)),
        ("line feed in a value (8.2.1)", get_with(&field(b"x", b"a\nb: c")), Gone(PROTOCOL_ERROR)),
        ("carriage return in a value (8.2.1)", get_with(&field(b"x", b"a\rb")), Gone(PROTOCOL_ERROR)),
        ("zero byte in a value (8.2.1)", get_with(&field(b"x", b"a\0b")), Gone(PROTOCOL_ERROR)),
        ("connection (8.2.2)", get_with(&field(b"connection", b"close")), Reset(PROTOCOL_ERROR)),
        ("keep-alive (8.2.2)", get_with(&field(b"keep-alive", b"1")), Reset(PROTOCOL_ERROR)),
        ("proxy-connection (8.2.2)", get_with(&field(b"proxy-connection", b"close")), Reset(PROTOCOL_ERROR)),
        ("transfer-encoding (8.2.2)", get_with(&field(b"transfer-encoding", b"chunked")), Reset(PROTOCOL_ERROR)),
        ("upgrade (8.2.2)", get_with(&field(b"upgrade", b"websocket")), Reset(PROTOCOL_ERROR)),
        ("te other than trailers (8.2.2)", get_with(&field(b"te", b"gzip")), Reset(PROTOCOL_ERROR)),
        (
            "pseudo field behind a field (8.3)",
            get_with(&[field(b"x", b"1"), pseudo(":path", "/two")].concat()),
            Reset(PROTOCOL_ERROR),
        ),
        ("unknown pseudo field (8.3)", get_with(&pseudo(":what", "1")), Gone(PROTOCOL_ERROR)),
        ("status in a request (8.3)", get_with(&pseudo(":status", "200")), Reset(PROTOCOL_ERROR)),
        ("two methods (8.3.1)", get_with(&[0x83]), Reset(PROTOCOL_ERROR)),
        ("two paths (8.3.1)", get_with(&pseudo(":path", "/two")), Reset(PROTOCOL_ERROR)),
        ("two schemes (8.3.1)", get_with(&[0x87]), Reset(PROTOCOL_ERROR)),
        ("two authorities (8.3.1)", get_with(&pseudo(":authority", "b")), Reset(PROTOCOL_ERROR)),
        (
            "empty path (8.3.1)",
            whole(&[&[0x82, 0x86, 0x41, 0x01, b'a'][..], &pseudo(":path", "")].concat()),
            Reset(PROTOCOL_ERROR),
        ),
        ("no method (8.3.1)", whole(&GET[1..]), Reset(PROTOCOL_ERROR)),
        ("no path (8.3.1)", whole(&[0x82, 0x86, 0x41, 0x01, b'a']), Reset(PROTOCOL_ERROR)),
        ("no scheme (8.3.1)", whole(&[0x82, 0x84, 0x41, 0x01, b'a']), Reset(PROTOCOL_ERROR)),
        ("no host at all", whole(&GET[..3]), Refused400),
        ("host beside another authority (8.3.1)", get_with(&field(b"host", b"b")), Refused400),
        ("user info in the authority", whole(&[&GET[..3], &pseudo(":authority", "u@a")].concat()), Refused400),
        (
            "path without a slash",
            whole(&[&[0x82, 0x86, 0x41, 0x01, b'a'][..], &pseudo(":path", "x")].concat()),
            Reset(PROTOCOL_ERROR),
        ),
        (
            "less body than announced (8.1.1)",
            vec![with_length("5"), frame(DATA, END_STREAM, 1, b"1")],
            Reset(PROTOCOL_ERROR),
        ),
        (
            "more body than announced (8.1.1)",
            vec![with_length("1"), frame(DATA, END_STREAM, 1, b"12345")],
            Reset(PROTOCOL_ERROR),
        ),
        ("a length that is none", vec![with_length("+1"), frame(DATA, END_STREAM, 1, b"1")], Reset(PROTOCOL_ERROR)),
        (
            "pseudo field in trailers (8.1), which are dropped",
            vec![post(), frame(HEADERS, WHOLE, 1, &pseudo(":path", "/"))],
            Answered,
        ),
        (
            "a second head that is no trailer (8.1)",
            vec![post(), frame(HEADERS, END_HEADERS, 1, &field(b"x", b"1"))],
            Reset(PROTOCOL_ERROR),
        ),
        (
            "CONNECT (8.5)",
            whole(&[&pseudo(":method", "CONNECT")[..], &pseudo(":authority", "fal.run:443")].concat()),
            Fate::AnsweredOtherwise,
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_first_frame_must_be_settings() {
    for first in [get(), frame(SETTINGS, ACK, 0, &[]), frame(PING, 0, 0, b"8 bytes.")] {
        let (mut client, served) = in_memory(&LimitSettings::default(), 64 * 1024);
        client.write_all(&[PREFACE, &first].concat()).await.unwrap();
        assert!(next(&mut client).await.is_none(), "{first:?}");
        served.await.unwrap();
    }
}
