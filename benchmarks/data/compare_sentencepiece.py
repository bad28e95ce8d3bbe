"""Compares the tokens of `brt data prepare` with those of the `sentencepiece` package, document by document.

    pip install sentencepiece==0.2.3 numpy
    python3 benchmarks/data/compare_sentencepiece.py --brt target/release/brt MODEL.model …

The text is the corpus `books`, as 33 whole works and as all their lines that are not empty. For Unigram models give
--lines-only: of two equally probable ways to divide a word they may choose the other in a long text.
"""

import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
import sentencepiece

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOKS = ROOT / "crates/brt-data/corpora/books.jsonl.zst"


def prepared(brt, model, texts, folder):
    """Returns the tokens of each text by brt; all texts are training documents of one shard."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    out = folder / "out"
    arguments = ["--validation", "0", "--test", "0", "--shard-bytes", str(1 << 40), "--out", out]
    subprocess.run([brt, "data", "prepare", "--corpus", rows, "--tokenizer", model, *arguments], check=True,
                   capture_output=True)
    manifest = json.loads((out / "manifest.json").read_text())
    kind = "<u2" if manifest["tokenizer"]["vocab_size"] <= 65536 else "<u4"
    tokens = np.fromfile(out / "00000.train.tokens", dtype=kind)
    index = (out / "00000.train.index").read_bytes()
    (num_documents,) = struct.unpack_from("<Q", index, 16)
    ends = [struct.unpack_from("<Q", index, 40 + 40 * i)[0] for i in range(num_documents)]
    return [tokens[start:end].tolist() for start, end in zip([0, *ends], ends)]


def compare(brt, model, lines_only):
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model))
    lines = subprocess.run(["zstd", "-dc", BOOKS], check=True, capture_output=True).stdout.splitlines()
    works = [json.loads(line)["text"] for line in lines]
    sets = {"lines": [line for work in works for line in work.split("\n") if line]}
    if not lines_only:
        sets["works"] = works
    different = 0
    for name, texts in sets.items():
        expected = reference.encode(texts)
        # A text without tokens is no document.
        kept = [i for i, tokens in enumerate(expected) if tokens]
        with tempfile.TemporaryDirectory() as folder:
            got = prepared(brt, model, texts, pathlib.Path(folder))
        assert len(got) == len(kept), f"{len(got)} documents, expected {len(kept)}"
        wrong = [i for i, tokens in zip(kept, got) if tokens != expected[i]]
        num_bytes = sum(len(text.encode()) for text in texts)
        num_tokens = sum(map(len, expected))
        print(f"{model.name}: {len(texts)} {name}, {num_bytes} bytes, {num_tokens} tokens: {len(wrong)} differ")
        different += len(wrong)
    return different


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--brt", required=True, help="the program")
parser.add_argument("--lines-only", action="store_true", help="leave out the whole works, for Unigram models")
parser.add_argument("models", nargs="+", type=pathlib.Path, help="SentencePiece models")
ARGUMENTS = parser.parse_args()
print(f"sentencepiece {sentencepiece.__version__}")
sys.exit(any([compare(ARGUMENTS.brt, model, ARGUMENTS.lines_only) for model in ARGUMENTS.models]))
