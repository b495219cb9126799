//! Byte-pair merging of one word, in time n·log n.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Symbols by number: the letters of all bytes, the same as last letters of a word, then what merges make.
type Symbol = u32;

/// Merges by rank, and the ids of what they make.
#[derive(Debug)]
pub(super) struct Bpe {
    /// Rank and result of a pair.
    merges: HashMap<(Symbol, Symbol), (u32, Symbol)>,
    /// Vocabulary id of each symbol, the end marker's where the vocabulary lacks it.
    ids: Vec<i64>,
}

/// The printable letter that stands for a byte: itself where it prints, else the next free one from U+0100.
pub(super) fn letter(byte: u8) -> char {
    match byte {
        33..=126 | 161..=172 | 174..=255 => char::from(byte),
        0..=32 => char::from_u32(0x100 + u32::from(byte)).expect("below the surrogates"),
        127..=160 => char::from_u32(0x121 + u32::from(byte) - 127).expect("below the surrogates"),
        173 => '\u{143}',
    }
}

impl Bpe {
    /// Takes merges, best first; a symbol that is not in the vocabulary gets the id `unknown`.
    pub(super) fn new(vocabulary: &HashMap<String, u32>, merges: &[(String, String)], unknown: i64) -> Self {
        let mut names: Vec<String> = (0..=u8::MAX).map(|byte| letter(byte).to_string()).collect();
        names.extend((0..=u8::MAX).map(|byte| format!("{}</w>", letter(byte))));
        let mut numbers: HashMap<String, Symbol> = names.iter().cloned().zip(0..).collect();
        let mut number = |name: String| {
            *numbers.entry(name).or_insert_with_key(|name| {
                names.push(name.clone());
                u32::try_from(names.len() - 1).expect("a vocabulary has fewer than 2^32 symbols")
            })
        };
        let merges = merges
            .iter()
            .zip(0..)
            .map(|((left, right), rank)| {
                let pair = (number(left.clone()), number(right.clone()));
                (pair, (rank, number(format!("{left}{right}"))))
            })
            .collect();
        let ids = names.iter().map(|name| vocabulary.get(name).map_or(unknown, |id| i64::from(*id))).collect();
        Self { merges, ids }
    }

    /// Appends the ids of one word, which must not be empty: merges the pair of lowest rank, leftmost first, until no
    /// pair is in the merges.
    pub(super) fn merge(&self, word: &str, ids: &mut Vec<i64>) {
        let mut symbols: Vec<Option<Symbol>> = word.bytes().map(|byte| Some(Symbol::from(byte))).collect();
        if let Some(Some(last)) = symbols.last_mut() {
            *last += 256;
        }
        // Neighbours as a linked list over the places of the bytes; a merged-away place holds `None`.
        let places = symbols.len();
        let mut next: Vec<usize> = (1..=places).collect();
        let mut previous: Vec<usize> = (0..places).map(|place| place.wrapping_sub(1)).collect();
        let mut heap = BinaryHeap::new();
        let offer = |heap: &mut BinaryHeap<_>, symbols: &[Option<Symbol>], left: usize, right: usize| {
            if let (Some(Some(a)), Some(Some(b))) = (symbols.get(left), symbols.get(right))
                && let Some((rank, made)) = self.merges.get(&(*a, *b))
            {
                heap.push(Reverse((*rank, left, right, *a, *b, *made)));
            }
        };
        for left in 0..places {
            offer(&mut heap, &symbols, left, left + 1);
        }
        while let Some(Reverse((_, left, right, a, b, made))) = heap.pop() {
            if symbols[left] != Some(a) || symbols[right] != Some(b) || next[left] != right {
                continue; // a neighbour was merged since this pair was offered
            }
            symbols[left] = Some(made);
            symbols[right] = None;
            next[left] = next[right];
            if let Some(back) = previous.get_mut(next[right]) {
                *back = left;
            }
            offer(&mut heap, &symbols, previous[left], left);
            offer(&mut heap, &symbols, left, next[left]);
        }
        ids.extend(symbols.into_iter().flatten().map(|symbol| self.ids[symbol as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_has_256_different_letters() {
        let letters: std::collections::HashSet<char> = (0..=u8::MAX).map(letter).collect();
        assert_eq!(letters.len(), 256);
        assert_eq!([letter(0), letter(32), letter(127), letter(160), letter(173)], ['Ā', 'Ġ', 'ġ', 'ł', 'Ń']);
    }

    #[test]
    fn the_lowest_rank_goes_first_and_the_left_one_of_equals() {
        let merges = [("b", "c</w>"), ("a", "b"), ("a", "a")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let vocabulary = ["bc</w>", "ab", "aa", "a"].map(String::from).into_iter().zip(0..).collect();
        let bpe = Bpe::new(&vocabulary, &merges, -1);
        let ids = |word: &str| {
            let mut ids = Vec::new();
            bpe.merge(word, &mut ids);
            ids
        };
        assert_eq!(ids("abc"), [3, 0], "b c</w> ranks before a b");
        assert_eq!(ids("aaab"), [2, 3, -1], "b</w> is not b, and the left pair of three goes first");
        assert_eq!(ids("z"), [-1]);
    }
}
