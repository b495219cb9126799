//! A tokenizer without a vocabulary.

use crate::engine::{TokenIds, Tokenize};

/// Takes bytes for tokens. Two prompts have equal ids only if they are equal (but for a collision of 63-bit hashes).
#[derive(Debug, Clone, Copy)]
pub struct FakeTokenizer {
    length: usize,
}

impl FakeTokenizer {
    /// A tokenizer that gives `length` ids a prompt; at least 1.
    #[must_use]
    pub const fn new(length: usize) -> Self {
        Self { length }
    }
}

impl Tokenize for FakeTokenizer {
    fn encode(&self, prompt: &str) -> TokenIds {
        let hash = hash(prompt.bytes());
        let mut ids: TokenIds = vec![(hash >> 1) as i64];
        ids.extend(prompt.bytes().map(i64::from).take(self.length.saturating_sub(1)));
        ids.resize(self.length.max(1), 0);
        ids
    }
}

/// FNV-1a.
pub(super) fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}
