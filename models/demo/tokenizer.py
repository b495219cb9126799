"""A small vocabulary in the layout of CLIP's tokenizer, learnt from the captions of the training scenes."""
import collections
import functools
import json
import pathlib
import re

from plan import GROUNDS, PRAISE, WORDS

BOS, EOS, LENGTH = "<|startoftext|>", "<|endoftext|>", 77
# Words that people are likely to type and no caption holds: they should not fall into letters.
ALSO = """picture of the with in on over near by behind front and or under bright light dark warm cold big small large little old red blue green
white black yellow orange pink purple gold style artist van gogh monet turner hokusai painting drawing photo photograph realistic sharp focus
river lake water waves rain lightning wind fog mist cloud star ship boat sail harbour village house tree forest bird gull mountain hill rock
sand island sea sky sun moon lighthouse morning noon dusk dawn autumn spring summer"""
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+")


def letters():
    """Stand-ins for the 256 bytes in the order of CLIP's vocabulary, and the table from byte to stand-in."""
    order = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in order}
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + len(order) - 188)
            order.append(b)
    return table, [table[b] for b in order]


def merged(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i:i + 2]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return tuple(out)


def learn():
    """The merges that make each known word one token, most useful first."""
    table, _ = letters()
    counts = collections.Counter()
    known = [text for group in (WORDS, GROUNDS) for texts in group.values() for text in texts]
    for weight, texts in ((20, known), (6, PRAISE), (1, ALSO.split()), (30, [","])):
        for text in texts:
            for word in WORD.findall(text.replace("{ground}", "").lower()):
                counts[word] += weight
    words = {}
    for word, n in sorted(counts.items()):
        symbols = [table[b] for b in word.encode()]
        words[(*symbols[:-1], symbols[-1] + "</w>")] = n
    merges = []
    while True:
        pairs = collections.Counter()
        for symbols, n in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {merged(symbols, best): n for symbols, n in words.items()}


def write(folder):
    """Writes the tokenizer's files; returns the number of entries."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    merges, (_, order) = learn(), letters()
    entries = [*order, *(c + "</w>" for c in order), *("".join(pair) for pair in merges), BOS, EOS]
    assert len(set(entries)) == len(entries)
    vocab = {entry: i for i, entry in enumerate(entries)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n", encoding="utf-8")
    mark = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    (folder / "special_tokens_map.json").write_text(json.dumps(
        {"bos_token": {"content": BOS, **mark}, "eos_token": {"content": EOS, **mark}, "pad_token": EOS, "unk_token": {"content": EOS, **mark}}, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True, "add_prefix_space": False, "errors": "replace",
         "pad_token": EOS, "bos_token": BOS, "eos_token": EOS, "unk_token": EOS}, indent=2) + "\n")
    return len(vocab)


class Tokenizer:
    """Reads captions as the engine does, for what captions contain."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        self.rank = {tuple(line.split(" ")): i for i, line in enumerate(lines)}
        self.table, _ = letters()
        self.word = functools.lru_cache(65536)(self.word)

    def word(self, word):
        symbols = [self.table[b] for b in word.encode()]
        symbols = (*symbols[:-1], symbols[-1] + "</w>")
        while len(symbols) > 1:
            best = min(zip(symbols, symbols[1:]), key=lambda pair: self.rank.get(pair, 1 << 30))
            if best not in self.rank:
                break
            symbols = merged(symbols, best)
        return [self.vocab.get(symbol, self.vocab[EOS]) for symbol in symbols]

    def ids(self, caption):
        found = [i for word in WORD.findall(caption.lower()) for i in self.word(word)][:LENGTH - 2]
        return [self.vocab[BOS], *found, *[self.vocab[EOS]] * (LENGTH - 1 - len(found))]
