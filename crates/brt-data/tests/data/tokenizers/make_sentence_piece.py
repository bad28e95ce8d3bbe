"""Trains two small SentencePiece models on the books of this crate and writes what the reference makes of some texts.

Needs: pip install sentencepiece==0.2.3 zstandard==0.25.0
Run in this folder; writes unigram.model (with byte fallback), bpe.model (with user-defined pieces) and the tokens.
"""

import io
import json
import pathlib
import random

import sentencepiece
import zstandard

BOOKS = pathlib.Path("../../../corpora/books.jsonl.zst")
RULES_FILE = pathlib.Path("rules.tsv")

# A few of the replacements of NFKC: a full table has 240 KB.
RULES = {"ﬁ": "fi", "½": "1⁄2", "Ａ": "A", "e\u0301": "é", "…": "...", "\t": " ", "\n": " ", "\u00a0": " ",
         "\u3000": " ", "\u200b": "", "\u00ad": "", "\x07": "", "¨": " \u0308"}

TEXTS = [
    "", " ", "  ", "\n", "\t\n ", "\u200b", "\u00a0", "a", " a", "a ", "  a  b  ", "a\nb", "a\n\nb\n", "a\tb\t\tc",
    "The quick brown fox jumps over the lazy dog.", "It was the best of times, it was the worst of times.",
    "Call me Ishmael. Some years ago--never mind how long precisely--", "Mr. Darcy and Mrs. Bennet", "Mr.Darcy",
    "don't can't won't 'tis", "\"Well,\" said he; \"well!\"", "CHAPTER XIV", "[Emma by Jane Austen 1816]",
    "12345 67.89 1,000,000 ½ ² 3rd", "0xDEADBEEF", "ﬁne oﬃce ﬂow", "Ａ Ｂ Ｃ", "ＡＡＡ", "cafe\u0301 café", "e\u0301e\u0301",
    "e\u0301\u0301", "n\u0303 \u0301a", "a\u0300\u0316\u0301z", "wait… and…see", "¨a", " ¨ ¨", "x¨",
    "\u00a0a\u00a0\u00a0b", "a\u3000b", "a\u200bb\u200b", "\u200b a", " \u200b a", "a \u200b ", "soft\u00adhyphen",
    "\u2581", "\u2581a", "a\u2581b", "\u2581\u2581 \u2581", "a \u2581 b", "<unk>", "<s>a</s>", "<0x41>", "<sep>", "a<sep>b",
    "<sep><sep> <sep>", "<sep", "the of the", "ing singing", "日本語", "日本 語 中文", "한국어", "Здравствуй, мир", "Ελληνικά",
    "עברית", "العربية", "हिन्दी", "ไทย", "🙂", "a🙂b", "🙂🙃 🙂", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "\U0010ffff", "\ufffd", "\ufeffa", "\x00", "a\x00b",
    "\x01\x02\x1f", "a\x07b", "\x7f", "\r\n", "a\r\nb", "\u2028\u2029", "\u202ea\u202c", "---", "----- -----", "......",
    "a" * 100, "ab" * 50, "=" * 77, " " * 40 + "x", "x" + " " * 40, "\n" * 20, "αβγ" * 10, "é" * 20, "zzzzqqqq",
    "fn main() { println!(\"{}\", 1 + 1); }", "    if x == 1:\n        return {'a': [1, 2]}\n", "https://example.org/?q=a&b=c#d",
    "Naïve façade — “quoted” ‘text’", "\u0301", "\u0308 a", "ſt ﬀ", "İstanbul ß ẞ", "Ǆ ǅ ǆ", "①②③", "㍿", "ﷺ",
    "\uac00\u11a8", "\u1100\u1161\u11a8", "\ue000\uf8ff", "A" + "\u0300" * 30, "\u180e\u2060\ufe0f", "a b", "a  b   c    d",
]


def random_texts(count, seed):
    """Returns texts of characters from all over Unicode."""
    rng = random.Random(seed)
    pools = [(32, 126), (97, 122), (32, 32), (0, 255), (0x300, 0x36F), (0x2000, 0x206F), (0x3040, 0x9FFF),
             (0xE000, 0x10FFFF), (0x1F300, 0x1FAFF), (0x2581, 0x2581), (10, 10)]
    return ["".join(chr(rng.randint(*rng.choice(pools))) for _ in range(rng.randint(1, 40))) for _ in range(count)]


def train(name, lines, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, num_threads=1, minloglevel=2,
        normalization_rule_tsv=str(RULES_FILE), **options)
    pathlib.Path(f"{name}.model").write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def main():
    works = zstandard.ZstdDecompressor().stream_reader(BOOKS.open("rb")).read().decode().splitlines()
    lines = [line for work in works for line in json.loads(work)["text"].split("\n") if line.strip()]
    lines = random.Random(1).sample(lines, 30000)
    rows = ["\t".join(" ".join(f"{ord(c):X}" for c in side) for side in rule) for rule in RULES.items()]
    RULES_FILE.write_text("\n".join(rows))
    unigram = train("unigram", lines, model_type="unigram", vocab_size=800, byte_fallback=True)
    bpe = train("bpe", lines, model_type="bpe", vocab_size=700, remove_extra_whitespaces=False,
                user_defined_symbols=["<sep>", "ing", "Mr. "], split_digits=True, character_coverage=0.999)
    RULES_FILE.unlink()
    cases = {"unigram": [], "bpe": []}
    for name, model in zip(cases, [unigram, bpe]):
        for text in TEXTS + random_texts(40, seed=2):
            encoded = model.encode(text, return_type="offset_mapping", return_bytes=True)
            ends = [end for _, end in encoded["offsets"]]
            decoded = model.decode(encoded["ids"])
            cases[name].append({"text": text, "tokens": encoded["ids"], "ends": ends, "decoded": decoded})
    rows = [f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in rows) + "\n]" for name, rows in cases.items()]
    pathlib.Path("sentence_piece.json").write_text("{" + ",\n".join(rows) + "}\n")


if __name__ == "__main__":
    main()
