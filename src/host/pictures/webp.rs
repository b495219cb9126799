//! Sizes inside a WebP file that its decoder allocates for before it compares them with the header's.

/// The largest lossy frame of a WebP file, in pixels, whatever the file's own header tells.
///
/// A lossy chunk holds a size of its own. `image-webp` reserves memory for that size first and refuses afterwards where
/// it differs from the canvas, so that a file of 100 bytes could cost 400 MB.
pub(super) fn largest_lossy_frame(file: &[u8]) -> u64 {
    file.get(12..).map_or(0, largest_in_chunks)
}

fn largest_in_chunks(mut chunks: &[u8]) -> u64 {
    let mut largest = 0;
    while let Some((head, rest)) = chunks.split_at_checked(8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let data = &rest[..length.min(rest.len())];
        largest = largest.max(match &head[..4] {
            b"VP8 " => lossy_area(data),
            // An animation frame: 16 bytes about it, then chunks of its own, which are never animation frames again.
            b"ANMF" => data.get(16..).map_or(0, largest_lossy_chunk),
            _ => 0,
        });
        let padded = length.saturating_add(length % 2);
        chunks = rest.get(padded..).unwrap_or_default();
    }
    largest
}

fn largest_lossy_chunk(mut chunks: &[u8]) -> u64 {
    let mut largest = 0;
    while let Some((head, rest)) = chunks.split_at_checked(8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if &head[..4] == b"VP8 " {
            largest = largest.max(lossy_area(rest));
        }
        chunks = rest.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    largest
}

/// Area out of a VP8 frame header (RFC 6386, 9.1): 3 bytes of tag, 3 of start code, 14 bits of each side.
fn lossy_area(data: &[u8]) -> u64 {
    let side = |at: usize| data.get(at..at + 2).map_or(0, |pair| u16::from_le_bytes([pair[0], pair[1]]) & 0x3fff);
    u64::from(side(6)) * u64::from(side(8))
}
