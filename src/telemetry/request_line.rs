//! One line for one request, as JSON or as text.

use std::cell::Cell;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Method, StatusCode};

use super::{CallNote, LogFormat};

/// Longest part of a path that is written, in bytes.
const MAX_PATH: usize = 200;

/// What is written of one request. Never its query, its headers or its bodies.
#[derive(Debug)]
pub(super) struct RequestLine<'a> {
    pub(super) at: SystemTime,
    pub(super) request_id: Option<&'a HeaderValue>,
    pub(super) client: Option<IpAddr>,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) status: Option<StatusCode>,
    pub(super) note: Option<&'a CallNote>,
    pub(super) caller: Option<&'a str>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) served: Duration,
    pub(super) end: End,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was sent whole.
    Whole,
    /// Its body failed.
    Broken,
    /// The client went away before its end.
    Gone,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Broken => "broken",
            Self::Gone => "gone",
        }
    }
}

impl RequestLine<'_> {
    pub(super) fn write(&self, format: LogFormat, out: &mut Vec<u8>) {
        // Writing to a vector never fails.
        let _ = match format {
            LogFormat::Json => self.json(out),
            LogFormat::Text => self.text(out),
        };
    }

    fn json(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(self.at, out);
        out.extend_from_slice(b"\",\"level\":\"info\",\"message\":\"request\",\"request_id\":\"");
        out.extend_from_slice(self.request_id.map_or(b"", HeaderValue::as_bytes));
        out.extend_from_slice(b"\"");
        if let Some(client) = self.client {
            out.extend_from_slice(b",\"client\":\"");
            write_address(client, out)?;
            out.push(b'"');
        }
        if let Some(caller) = self.caller {
            out.extend_from_slice(b",\"caller\":\"");
            write_path(caller, out);
            out.extend_from_slice(b"\"");
        }
        out.extend_from_slice(b",\"method\":\"");
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.extend_from_slice(b"\",\"path\":\"");
        write_path(self.path, out);
        out.extend_from_slice(b"\"");
        if let Some(note) = self.note {
            if let Some(endpoint) = &note.endpoint {
                out.extend_from_slice(b",\"endpoint\":\"");
                write_path(endpoint, out);
                out.extend_from_slice(b"\"");
            }
            out.extend_from_slice(b",\"kind\":\"");
            out.extend_from_slice(note.kind.as_bytes());
            out.extend_from_slice(b"\",\"route\":\"");
            out.extend_from_slice(note.route.as_bytes());
            out.extend_from_slice(b"\",\"waited_ms\":");
            write_ms(note.waited, out);
        }
        let mut number = itoa::Buffer::new();
        out.extend_from_slice(b",\"status\":");
        out.extend_from_slice(number.format(self.status.map_or(0, |status| status.as_u16())).as_bytes());
        out.extend_from_slice(b",\"bytes_in\":");
        out.extend_from_slice(number.format(self.bytes_in).as_bytes());
        out.extend_from_slice(b",\"bytes_out\":");
        out.extend_from_slice(number.format(self.bytes_out).as_bytes());
        out.extend_from_slice(b",\"served_ms\":");
        write_ms(self.served, out);
        out.extend_from_slice(b",\"end\":\"");
        out.extend_from_slice(self.end.as_str().as_bytes());
        out.extend_from_slice(b"\"}\n");
        Ok(())
    }

    fn text(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        write_time(self.at, out);
        out.extend_from_slice(b"  INFO request ");
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.extend_from_slice(b" ");
        write_path(self.path, out);
        write!(out, " -> {} in ", self.status.map_or(0, |status| status.as_u16()))?;
        write_ms(self.served, out);
        write!(out, " ms, {} bytes in, {} bytes out", self.bytes_in, self.bytes_out)?;
        if let Some(note) = self.note {
            write!(out, " kind={} route={}", note.kind, note.route)?;
            if let Some(endpoint) = &note.endpoint {
                out.extend_from_slice(b" endpoint=");
                write_path(endpoint, out);
            }
            out.extend_from_slice(b" waited_ms=");
            write_ms(note.waited, out);
        }
        if let Some(client) = self.client {
            write!(out, " client={client}")?;
        }
        if let Some(caller) = self.caller {
            out.extend_from_slice(b" caller=");
            write_path(caller, out);
        }
        out.extend_from_slice(b" request_id=");
        out.extend_from_slice(self.request_id.map_or(b"-", HeaderValue::as_bytes));
        if self.end != End::Whole {
            write!(out, " end={}", self.end.as_str())?;
        }
        out.push(b'\n');
        Ok(())
    }
}

/// Milliseconds with three decimals.
fn write_ms(duration: Duration, out: &mut Vec<u8>) {
    let micros = duration.as_micros();
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(number.format(micros / 1000).as_bytes());
    // Below 1000, so that it always fits.
    let rest = (micros % 1000) as u16;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

/// The last decimal digit of a number.
const fn digit(number: u16) -> u8 {
    b'0' + (number % 10) as u8
}

/// IPv4 is written here: it is most of what there is, and the standard library's way takes ten times as long.
fn write_address(address: IpAddr, out: &mut Vec<u8>) -> std::io::Result<()> {
    let IpAddr::V4(v4) = address else { return write!(out, "{address}") };
    let mut number = itoa::Buffer::new();
    for (at, octet) in v4.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(number.format(octet).as_bytes());
    }
    Ok(())
}

/// A path is visible ASCII already; what JSON would have to escape is shown as `_`.
fn write_path(path: &str, out: &mut Vec<u8>) {
    let path = &path.as_bytes()[..path.len().min(MAX_PATH)];
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if path.iter().all(is_plain) {
        out.extend_from_slice(path);
    } else {
        out.extend(path.iter().map(|byte| if is_plain(byte) { *byte } else { b'_' }));
    }
}

thread_local! {
    /// The second that was written last, and its text up to the seconds.
    static SECOND: Cell<(u64, [u8; SECOND_BYTES])> = const { Cell::new((u64::MAX, [0; SECOND_BYTES])) };
}

const SECOND_BYTES: usize = "2026-11-22T21:49:00".len();

/// `2026-11-22T21:49:00.123Z`. All but the fraction is worked out once a second.
pub(crate) fn write_time(at: SystemTime, out: &mut Vec<u8>) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut second, mut text) = SECOND.get();
    if second != since.as_secs() {
        second = since.as_secs();
        text = civil(second);
        SECOND.set((second, text));
    }
    // Below 1000, so that it always fits.
    let ms = since.subsec_millis() as u16;
    out.extend_from_slice(&text);
    out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
}

/// A second of Unix time as date and time, after Howard Hinnant's `civil_from_days`.
fn civil(seconds: u64) -> [u8; SECOND_BYTES] {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = (era * 400 + year_of_era + u64::from(month <= 2)) % 10_000;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = [0; SECOND_BYTES];
    let mut space = text.as_mut_slice();
    // As long as the text, whatever the numbers.
    let _ = write!(space, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: u64) -> String {
        let mut out = Vec::new();
        write_time(UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(time(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(time(1_795_384_799), "2026-11-22T21:59:59.007Z");
        assert_eq!(time(1_795_384_800), "2026-11-22T22:00:00.007Z");
    }

    #[test]
    fn addresses_are_written_as_everybody_writes_them() {
        for address in ["127.0.0.1", "10.20.30.255", "2001:db8::1"] {
            let mut out = Vec::new();
            write_address(address.parse().unwrap(), &mut out).unwrap();
            assert_eq!(out, address.as_bytes());
        }
    }

    #[test]
    fn a_line_of_json_is_json_whatever_the_path() {
        let note = CallNote {
            endpoint: Some("a/b".to_owned()),
            kind: "run",
            route: "engine",
            waited: Duration::from_millis(2),
        };
        let line = RequestLine {
            at: UNIX_EPOCH,
            request_id: None,
            client: Some("::1".parse().unwrap()),
            method: &Method::POST,
            path: "/\"},{\"\\\n\u{e9}",
            status: Some(StatusCode::OK),
            note: Some(&note),
            caller: Some("ann"),
            bytes_in: 1,
            bytes_out: 2,
            served: Duration::from_micros(1_234),
            end: End::Whole,
        };
        let mut out = Vec::new();
        line.write(LogFormat::Json, &mut out);
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["served_ms"], 1.234);
        assert_eq!(read["waited_ms"], 2.0);
        assert_eq!(read["client"], "::1");
        assert_eq!(read["route"], "engine");
        assert_eq!(read["caller"], "ann");
    }
}
