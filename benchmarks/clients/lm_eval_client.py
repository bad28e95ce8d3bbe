"""Scores a running `brt serve` with `lm-eval` (its model `local-completions`) on a text of yours; needs no network.

    brt serve runs/first --listen 127.0.0.1:8080 &
    pip install -r benchmarks/clients/requirements.txt
    python benchmarks/clients/lm_eval_client.py http://127.0.0.1:8080/v1 book.txt --tokenizer runs/first/tokenizer.json

`--tokenizer` is the run's `tokenizer.json`, its `tokenizer.bytes`, or `t5-bytes` or `bytes`. The text is cut into
documents; `lm_eval_task` holds the tasks. Standard output is one JSON object: lm-eval's results, and what was checked
beside them: the score of the first document is asked for once more without lm-eval, as tokens and as text. Exit
status 1 if that differs. `--keep FOLDER` leaves the data there and prints the command that runs lm-eval by itself.

lm-eval scores the first token of a document, too, after a prefix token that a tokenizer has for this purpose. Here it
is the line feed, unless `--prefix-token` says otherwise. `brt eval` does not score a document's first token.
"""

import argparse
import json
import logging
import math
import os
import pathlib
import shlex
import sys
import tempfile
import urllib.error
import urllib.request

TASKS = ["brt_rolling", "brt_choice", "brt_last_word", "brt_generate"]
BYTE_TOKENIZERS = {"t5-bytes": ["<pad>", "</s>", "<unk>"], "bytes": []}
# lm-eval cuts what is longer into windows; the server carries its state through a document of any length.
MAX_LENGTH = 1 << 20


def byte_chars():
    """The character that stands for each byte in a byte-level vocabulary."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


def byte_tokenizer(special):
    """A `tokenizer.json` with a token per byte after some that no text has: a byte-level BPE without merges."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: idx for idx, token in enumerate([*special, *byte_chars()])},
        "merges": [],
    }
    parts = {"normalizer": None, "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], **parts, "model": model}


def write_tokenizer(source, folder):
    """Writes a folder that `transformers` opens as a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    if source not in BYTE_TOKENIZERS:
        contents = pathlib.Path(source).read_bytes()
        source = contents.decode("utf-8").strip() if len(contents) < 16 else source
    if source in BYTE_TOKENIZERS:
        contents = json.dumps(byte_tokenizer(BYTE_TOKENIZERS[source])).encode()
    (folder / "tokenizer.json").write_bytes(contents)
    # Without the second line some versions drop spaces before marks when tokens become text.
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_LENGTH,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def documents_of(text, num_chars, num_documents):
    """Pieces of a text, from all over it, that begin and end at the ends of lines or else of words."""
    documents, start = [], 0
    while start < len(text):
        end = min(start + num_chars, len(text))
        if end < len(text):
            cuts = (text.rfind(mark, start + num_chars // 2, end) for mark in ("\n", " "))
            end = next((cut + 1 for cut in cuts if cut >= 0), end)
        document = text[start:end].strip()
        if len(document) >= num_chars // 2:
            documents.append(document)
        start = end
    step = max(1, len(documents) // num_documents)
    return documents[::step][:num_documents]


def cut_before_space(text, place):
    """The first place from `place` on where a space follows a letter and goes before one, or None."""
    places = range(place, min(len(text) - 1, place + 200))
    return next((i for i in places if text[i] == " " and text[i - 1].isalpha() and text[i + 1].isalpha()), None)


def items_of(documents):
    """The examples of the tasks other than `brt_rolling`."""
    parts = []
    for document in documents:
        for start in range(0, len(document) - 700, 1000):
            cut = cut_before_space(document, start + 400)
            end = cut and cut_before_space(document, cut + 60)
            if end and (word_end := cut_before_space(document, cut + 1)):
                # The next word alone, and the next sixty characters or so.
                parts.append((document[start:cut].lstrip(), document[cut:word_end], document[cut:end]))
    choice, last_word, generate = [], [], []
    for idx, (context, word, continuation) in enumerate(parts):
        others = [parts[(idx + step * len(parts) // 4) % len(parts)][2] for step in (1, 2, 3)]
        label = idx % 4
        choices = [*others[:label], continuation, *others[label:]]
        choice.append({"context": context, "choices": choices, "label": label})
        last_word.append({"context": context, "word": word})
        generate.append({"context": context, "continuation": continuation.split("\n")[0]})
    return {"choice": choice, "last_word": last_word, "generate": generate[: max(1, len(generate) // 4)]}


def write_lines(path, rows):
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


class Server:
    """Plain requests."""

    def __init__(self, base_url, api_key):
        self.base_url, self.api_key = base_url.rstrip("/"), api_key

    def ask(self, path, body=None):
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.api_key or ''}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base_url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            sys.exit(f"{request.full_url}: {error.code} {error.read().decode()}")
        except urllib.error.URLError as error:
            sys.exit(f"{request.full_url}: {error.reason}")

    def score(self, model, prompt):
        """The sum of the log-probabilities of a prompt's tokens but the first, and their number."""
        body = {"model": model, "prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
        (choice,) = self.ask("/completions", body)["choices"]
        scores = choice["logprobs"]["token_logprobs"][1:]
        return sum(scores), len(scores)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base_url", help="with /v1 at its end")
    parser.add_argument("text", type=pathlib.Path, help="a file of UTF-8 text")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--model")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--document-chars", type=int, default=4000)
    parser.add_argument("--max-length", type=int, default=MAX_LENGTH, help="tokens of a window of lm-eval")
    parser.add_argument("--concurrent", type=int, default=4, help="requests at a time")
    parser.add_argument("--batch-size", type=int, default=1, help="prompts in a request")
    parser.add_argument("--prefix-token", type=int, help="default: the token of a line feed")
    parser.add_argument("--text-prompts", action="store_true", help="send text, not tokens")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for data and tokenizer; default: a temporary one")
    args = parser.parse_args()
    text = args.text.read_text(encoding="utf-8")
    tasks_folder = pathlib.Path(__file__).resolve().parent / "lm_eval_task"
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.keep or pathlib.Path(temporary)).resolve()
        write_tokenizer(args.tokenizer, folder / "tokenizer")
        documents = documents_of(text, args.document_chars, args.documents)
        if not documents:
            sys.exit(f"{args.text}: expected at least {args.document_chars // 2} characters, got {len(text)}")
        write_lines(folder / "rolling.jsonl", [{"text": document} for document in documents])
        for name, rows in items_of(documents).items():
            write_lines(folder / f"{name}.jsonl", rows)
        # All that the two packages would ask a hub for is in this folder.
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": f"{temporary}/cache"}
        os.environ.update(offline, OPENAI_API_KEY=args.api_key or "", TOKENIZERS_PARALLELISM="false")
        before = pathlib.Path.cwd()
        os.chdir(folder)
        report, is_right = evaluate(args, tasks_folder, documents)
        os.chdir(before)
    print(json.dumps(report, indent=2))
    sys.exit(not is_right)


def evaluate(args, tasks_folder, documents):
    """Runs lm-eval in the folder of the data."""
    import lm_eval
    from lm_eval.tasks import TaskManager
    from transformers import AutoTokenizer

    logging.getLogger().setLevel(logging.WARNING)
    tokenizer = AutoTokenizer.from_pretrained("./tokenizer")
    prefix = args.prefix_token
    if prefix is None:
        (prefix,) = tokenizer.encode("\n", add_special_tokens=False)
    server = Server(args.base_url, args.api_key)
    model = args.model or server.ask("/models")["data"][0]["id"]
    model_args = {
        "model": model,
        "base_url": server.base_url + "/completions",
        "tokenizer_backend": "huggingface",
        "tokenizer": "./tokenizer",
        "tokenized_requests": not args.text_prompts,
        "custom_prefix_token_id": prefix,
        "max_length": args.max_length,
        "num_concurrent": args.concurrent,
        "max_retries": 1,
        "timeout": 600,
    }
    command = ["lm_eval", "run", "--model", "local-completions", "--include_path", str(tasks_folder)]
    command += ["--tasks", args.tasks, "--batch_size", str(args.batch_size)]
    command += ["--model_args", ",".join(f"{key}={value}" for key, value in model_args.items())]
    if args.keep:
        print(f"in {args.keep}: {shlex.join(command)}", file=sys.stderr)
    answer = lm_eval.simple_evaluate(
        model="local-completions",
        model_args=model_args,
        tasks=args.tasks.split(","),
        batch_size=args.batch_size,
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(tasks_folder), include_defaults=False),
    )
    report = {"model": model, "lm_eval": lm_eval.__version__, "documents": len(documents)}
    report["results"] = {
        task: {key.removesuffix(",none"): value for key, value in values.items() if is_result(key, value)}
        for task, values in answer["results"].items()
    }
    report["examples"] = {task: len(samples) for task, samples in answer["samples"].items()}
    is_right = True
    if "brt_rolling" in answer["samples"]:
        samples = answer["samples"]["brt_rolling"]
        report["rolling"], is_right = check_rolling(samples, server, model, tokenizer, prefix, args.max_length)
    return report, is_right


def is_result(key, value):
    return isinstance(value, (int, float)) and "stderr" not in key


def check_rolling(samples, server, model, tokenizer, prefix, max_length):
    """Bits per byte from the sums of lm-eval, and its first sum beside those that the server gives without lm-eval."""
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    sums = [value_of(sample["filtered_resps"][0]) for sample in samples]
    texts = [sample["doc"]["text"] for sample in samples]
    num_bytes = sum(len(text.encode()) for text in texts)
    tokens = [prefix, *tokenizer.encode(texts[0], add_special_tokens=False)]
    as_tokens, num_tokens = server.score(model, tokens)
    as_text, num_text_tokens = server.score(model, tokenizer.decode([prefix]) + texts[0])
    found = {
        "bytes": num_bytes,
        "bits_per_byte": -sum(sums) / math.log(2) / num_bytes,
        "first_document": {
            "lm_eval": sums[0],
            "as_tokens": as_tokens,
            "as_text": as_text,
            "tokens": num_tokens,
            "tokens_of_text": num_text_tokens,
        },
    }
    is_whole = num_tokens + 2 < max_length
    values = [as_tokens] if is_whole else []
    if num_tokens == num_text_tokens:
        values.append(as_text)
    else:
        print("the server's tokenizer divides the first document into other tokens", file=sys.stderr)
    is_right = not is_whole or all(math.isclose(value, sums[0], rel_tol=1e-4) for value in values)
    if not is_right:
        print(f"the first document has other scores without lm-eval: {found['first_document']}", file=sys.stderr)
    return found, is_right


def value_of(response):
    """A sum of log-probabilities: alone, or with whether the text is greedy."""
    return response if isinstance(response, float) else value_of(response[0])


if __name__ == "__main__":
    main()
