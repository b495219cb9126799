//! CLIP's tokenizer: byte-pair encoding over lower-cased words, as the reference's fast tokenizer does it.

use std::collections::HashMap;
use std::iter;

use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

use super::bpe::Bpe;
use super::{TokenIds, Tokenize};

/// Opens every prompt.
const START: &str = "<|startoftext|>";
/// Ends every prompt and fills it up to its length.
const END: &str = "<|endoftext|>";

/// Characters of a prompt that are read, after runs of white space became one space.
///
/// Far more than 75 tokens can cover: CLIP's longest token has fewer than 100 letters. Only a single word longer than this
/// is read differently from the reference, which would merge it as a whole.
const READ: usize = 8192;
/// Characters of a piece that are looked at, before white space and combining marks are put together: these are read to their end
/// before the first character comes out.
const LOOKED_AT: usize = 8 * READ;

/// Turns prompts into token ids.
///
/// 1. The literals `<|startoftext|>` and `<|endoftext|>` become their ids, also when a caller types them.
/// 2. The text between them is normalized (NFC), runs of white space become one space, and characters are lowered one by
///    one, without the final-sigma rule.
/// 3. Words are contractions, runs of letters, single digits, and runs of anything else.
/// 4. Each word's bytes are merged by the vocabulary's ranks.
#[derive(Debug)]
pub struct ClipTokenizer {
    bpe: Bpe,
    words: Regex,
    literals: Regex,
    start: i64,
    end: i64,
    length: usize,
}

impl ClipTokenizer {
    /// Takes a vocabulary and its merges, best first. `length` is the number of ids that a prompt gets (77).
    ///
    /// # Errors
    /// [`VocabularyError`] if a marker is not in the vocabulary or a prompt of `length` has no room for a word.
    pub fn new(
        vocabulary: &HashMap<String, u32>,
        merges: &[(String, String)],
        length: usize,
    ) -> Result<Self, VocabularyError> {
        let marker =
            |name: &'static str| vocabulary.get(name).map(|id| i64::from(*id)).ok_or(VocabularyError::Marker { name });
        let (start, end) = (marker(START)?, marker(END)?);
        if length < 3 {
            return Err(VocabularyError::Length { length });
        }
        Ok(Self {
            bpe: Bpe::new(vocabulary, merges, end),
            words: Regex::new(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
                .expect("a fixed, valid pattern"),
            literals: Regex::new(r"<\|startoftext\|>|<\|endoftext\|>").expect("a fixed, valid pattern"),
            start,
            end,
            length,
        })
    }

    /// Ids of a prompt: the start marker, at most `length - 2` tokens, and end markers up to `length`.
    ///
    /// The time is bounded for prompts of any length: no more is read than the ids can hold.
    #[must_use]
    pub fn ids(&self, prompt: &str) -> TokenIds {
        let room = self.length - 2;
        let mut ids = Vec::with_capacity(self.length);
        ids.push(self.start);
        let mut rest = prompt;
        while ids.len() <= room && !rest.is_empty() {
            let literal = self.literals.find(rest);
            let piece = literal.map_or(rest, |found| &rest[..found.start()]);
            self.read(piece, room + 1, &mut ids);
            rest = literal.map_or("", |found| {
                ids.push(if found.as_str() == START { self.start } else { self.end });
                &rest[found.end()..]
            });
        }
        ids.truncate(room + 1);
        ids.resize(self.length, self.end);
        ids
    }

    /// Reads words into `ids` until it holds `full` of them.
    fn read(&self, piece: &str, full: usize, ids: &mut Vec<i64>) {
        let text: String =
            one_space(piece.chars().take(LOOKED_AT).nfc()).flat_map(char::to_lowercase).take(READ).collect();
        for word in self.words.find_iter(&text) {
            if ids.len() >= full {
                return;
            }
            self.bpe.merge(word.as_str(), ids);
        }
    }
}

impl Tokenize for ClipTokenizer {
    fn encode(&self, prompt: &str) -> TokenIds {
        self.ids(prompt)
    }
}

/// Replaces runs of white space by one space.
fn one_space(text: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    let mut text = text.peekable();
    iter::from_fn(move || {
        let next = text.next()?;
        if !next.is_whitespace() {
            return Some(next);
        }
        while text.next_if(|following| following.is_whitespace()).is_some() {}
        Some(' ')
    })
}

/// Why a vocabulary is not CLIP's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// A marker has no id.
    #[error("vocabulary has no {name}")]
    Marker {
        /// The marker.
        name: &'static str,
    },
    /// Not even one token fits between the markers.
    #[error("prompts of {length} tokens have no room for a word")]
    Length {
        /// Ids a prompt would get.
        length: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> ClipTokenizer {
        let mut names: Vec<String> = Vec::new();
        for byte in 0..=u8::MAX {
            names.push(super::super::bpe::letter(byte).to_string());
        }
        for byte in 0..=u8::MAX {
            names.push(format!("{}</w>", super::super::bpe::letter(byte)));
        }
        let merges = [("c", "a"), ("ca", "t</w>")].map(|(left, right)| (left.to_owned(), right.to_owned()));
        names.extend(["ca", "cat</w>", START, END].map(String::from));
        let vocabulary = names.into_iter().zip(0u32..).collect();
        ClipTokenizer::new(&vocabulary, &merges, 77).unwrap()
    }

    #[test]
    fn words_merge_by_rank_and_prompts_are_padded_with_the_end() {
        let ids = tokenizer().ids("Cat  cat\n1");
        assert_eq!(ids[..5], [514, 513, 513, 256 + i64::from(b'1'), 515]);
        assert_eq!(ids.len(), 77);
        assert!(ids[5..].iter().all(|id| *id == 515));
    }

    #[test]
    fn typed_markers_become_their_ids() {
        assert_eq!(tokenizer().ids("<|endoftext|>cat<|startoftext|>")[..5], [514, 515, 513, 514, 515]);
    }

    #[test]
    fn an_empty_prompt_is_start_and_ends() {
        let ids = tokenizer().ids(" \t ");
        assert_eq!(ids[0], 514);
        assert!(ids[1..].iter().all(|id| *id == 515));
    }

    #[test]
    fn a_long_prompt_keeps_its_first_75_tokens() {
        let ids = tokenizer().ids(&"cat ".repeat(300));
        assert!(ids[1..76].iter().all(|id| *id == 513));
        assert_eq!(ids[76], 515);
    }

    #[test]
    fn no_more_is_read_than_is_looked_at() {
        let tokenizer = tokenizer();
        for text in ["ca", " ", "a ", "<|endoftext|>", "\u{301}", "Ä", "!"] {
            assert_eq!(tokenizer.ids(&text.repeat((1 << 20) / text.len())).len(), 77);
        }
        // Neither a run of white space nor one of combining marks is read to its end, wherever that is.
        for run in [" ", "\u{301}"] {
            let within = format!("a{}cat", run.repeat(LOOKED_AT - 10));
            let beyond = format!("a{}cat", run.repeat(LOOKED_AT));
            let endless = format!("a{}", run.repeat(LOOKED_AT));
            assert_eq!(tokenizer.ids(&beyond), tokenizer.ids(&endless), "{run:?}");
            assert_eq!(tokenizer.ids(&within) == tokenizer.ids(&endless), run != " ", "{run:?}");
        }
    }

    #[test]
    fn a_vocabulary_without_markers_is_refused() {
        let error = ClipTokenizer::new(&HashMap::new(), &[], 77).unwrap_err();
        assert_eq!(error.to_string(), "vocabulary has no <|startoftext|>");
    }
}
