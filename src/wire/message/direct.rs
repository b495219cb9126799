//! Bare pictures both ways, for pages that agree on it in the URL: no base64, no MessagePack (docs/design/0002-sockets.md).

use crate::wire::{PictureFormat, RunTimings};

/// Bytes in front of a picture that is answered bare.
pub const DIRECT_HEADER_BYTES: usize = 40;
/// Version of this way to send pictures.
pub const DIRECT_VERSION: u8 = 1;

/// What a page is told in front of a bare picture. All numbers are big-endian, as `DataView` reads them:
///
/// | at | bytes | what |
/// |---:|---:|---|
/// | 0 | 1 | version, 1 |
/// | 1 | 1 | encoding: 1 JPEG, 2 PNG |
/// | 2 | 2 | bytes of this header: the picture begins there |
/// | 4 | 4 | which picture of the page it answers; the first is 1 |
/// | 8 | 2 | width in pixels |
/// | 10 | 2 | height in pixels |
/// | 12 | 8 | seed |
/// | 20 | 20 | microseconds: decode, queue, inference, encode, total |
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DirectHeader {
    /// Which picture of the page it answers.
    pub sequence: u32,
    /// Its encoding.
    pub format: PictureFormat,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Seed, its lowest 64 bits.
    pub seed: u64,
    /// Where the time went.
    pub timings: RunTimings,
}

impl DirectHeader {
    /// Writes the header.
    #[must_use]
    pub fn write(&self) -> [u8; DIRECT_HEADER_BYTES] {
        let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX).to_be_bytes();
        let micros = |seconds: f64| (seconds * 1e6).clamp(0.0, f64::from(u32::MAX)) as u32;
        let mut header = [0; DIRECT_HEADER_BYTES];
        header[0] = DIRECT_VERSION;
        header[1] = match self.format {
            PictureFormat::Jpeg => 1,
            PictureFormat::Png => 2,
        };
        header[2..4].copy_from_slice(&(DIRECT_HEADER_BYTES as u16).to_be_bytes());
        header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..10].copy_from_slice(&side(self.size.0));
        header[10..12].copy_from_slice(&side(self.size.1));
        header[12..20].copy_from_slice(&self.seed.to_be_bytes());
        let t = &self.timings;
        for (at, seconds) in [t.decode, t.queue, t.inference, t.encode, t.total].into_iter().enumerate() {
            header[20 + 4 * at..24 + 4 * at].copy_from_slice(&micros(seconds).to_be_bytes());
        }
        header
    }
}

/// Whether a binary frame is a bare picture and no MessagePack: none of these beginnings is a map's whose keys are text.
#[must_use]
pub fn looks_like_a_picture(frame: &[u8]) -> bool {
    let riff = frame.starts_with(b"RIFF") && frame.get(8..12) == Some(b"WEBP");
    riff || [&b"\xFF\xD8\xFF"[..], b"\x89PNG\r\n\x1a\n", b"GIF8"].iter().any(|start| frame.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_forty_bytes_in_network_order() {
        let timings = RunTimings { decode: 0.001, queue: 0.0, inference: 0.02, encode: 0.003, total: 1e9 };
        let header =
            DirectHeader { sequence: 7, format: PictureFormat::Png, size: (512, 256), seed: u64::MAX - 1, timings };
        let mut wanted = vec![1, 2, 0, 40, 0, 0, 0, 7, 2, 0, 1, 0];
        wanted.extend([255, 255, 255, 255, 255, 255, 255, 254]);
        wanted.extend([0, 0, 3, 232, 0, 0, 0, 0, 0, 0, 78, 32, 0, 0, 11, 184, 255, 255, 255, 255]);
        assert_eq!(header.write().to_vec(), wanted);
    }

    #[test]
    fn pictures_are_told_from_messages() {
        for picture in [&b"\xFF\xD8\xFF\xE0"[..], b"\x89PNG\r\n\x1a\n..", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a"] {
            assert!(looks_like_a_picture(picture));
        }
        for message in [&b"\x81\xa1a\xc0"[..], b"", b"\x89\xa1a", b"RIFF\0\0\0\0WAVE", b"{}"] {
            assert!(!looks_like_a_picture(message));
        }
    }
}
