"""Checks a running `brt serve` with the `openai` package, one line per check.

    brt serve runs/first --listen 127.0.0.1:8080 &
    pip install -r benchmarks/clients/requirements.txt
    python benchmarks/clients/openai_client.py http://127.0.0.1:8080/v1

Options: `--api-key KEY` where the server asks for one (then a wrong key is tried, too); `--model NAME` (default: the
first one that the server lists); `--prompt TEXT` (ASCII, ends with a letter); `--tokens JSON`, a text and the tokens
that the server's tokenizer makes of it, as `{"text": "AB", "tokens": [68, 69]}` or a file with that; `--only PART`,
only the checks with this in their names. Exit status 1 if a check failed.
"""

import argparse
import json
import pathlib
import sys
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor

import openai

PROMPT = "It was a bright cold day in April, and the clocks were striking"
OTHERS = [
    "Call me Ishmael. Some years ago",
    "The river ran past the old mill",
    "fn main() {",
    "In the year 1878 I took my degree",
    "There was no possibility of taking a walk",
    "1 2 3 4 5",
    "My dear friend,",
    "Once upon a time there was a king",
]
NOT_ASCII = "The caf\u00e9 \u2014 na\u00efve, \u6f22\u5b57 and \U0001f980 too"


class Checks:
    """The checks: each method whose name starts with `check_` is one, in the order of the source."""

    def __init__(self, args):
        self.args = args
        self.client = self.new_client(args.api_key or "none")
        self.prompt = args.prompt
        self.model = args.model

    def new_client(self, key):
        return openai.OpenAI(base_url=self.args.base_url, api_key=key, timeout=self.args.timeout, max_retries=0)

    def create(self, prompt=None, **options):
        """Greedy and 32 tokens unless the options say otherwise."""
        options = {"temperature": 0, "max_tokens": 32, **options}
        return self.client.completions.create(
            model=self.model, prompt=self.prompt if prompt is None else prompt, **options
        )

    def text(self, prompt=None, **options):
        (choice,) = self.create(prompt, **options).choices
        return choice.text

    # What is there

    def check_models_list(self):
        """models.list names a model"""
        models = list(self.client.models.list())
        assert models, "no model"
        for model in models:
            assert model.object == "model" and isinstance(model.created, int) and model.owned_by is not None, model
        self.model = self.model or models[0].id
        assert self.model in [model.id for model in models], f"{self.model} is not one of them"
        return self.model

    def check_models_retrieve(self):
        """models.retrieve finds it, and no other"""
        raises(openai.NotFoundError, lambda: self.client.models.retrieve("no-such-model"))
        try:
            same(self.model, self.client.models.retrieve(self.model).id)
        except openai.NotFoundError:
            return skipped("the server only lists models")

    # Text

    def check_greedy(self):
        """a greedy completion, twice the same"""
        first, second = self.create(), self.create()
        assert first.object == "text_completion" and first.id and first.created > 0 and first.model == self.model, first
        assert first.choices[0].index == 0 and first.choices[0].logprobs is None, first.choices
        assert first.choices[0].text, "no text"
        same(first.choices[0].text, second.choices[0].text)
        return repr(first.choices[0].text[:40])

    def check_usage(self):
        """usage adds up, finish_reason is length"""
        answer = self.create(max_tokens=7)
        assert answer.choices[0].finish_reason == "length", answer.choices[0]
        assert answer.usage.completion_tokens == 7 and answer.usage.prompt_tokens > 0, answer.usage
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + 7, answer.usage

    def check_shorter_is_prefix(self):
        """fewer greedy tokens are the start of more"""
        long, short = self.text(max_tokens=24), self.text(max_tokens=12)
        assert long.startswith(short.rstrip("\ufffd")), f"{short!r} does not start {long!r}"

    def check_seed(self):
        """the same seed at temperature 0.8 gives the same text, another one another"""
        first, second, other = (self.text(temperature=0.8, seed=seed) for seed in (1, 1, 2))
        same(first, second)
        assert first != other, f"seeds 1 and 2 both give {first!r}"

    def check_temperature_0_ignores_seed(self):
        """greedy does not depend on the seed"""
        same(self.text(seed=1), self.text(seed=2))

    def check_top_p_and_top_k(self):
        """top_k=1 and a tiny top_p are greedy, min_p and repetition_penalty are taken"""
        greedy = self.text()
        same(greedy, self.text(temperature=1, extra_body={"top_k": 1}))
        same(greedy, self.text(temperature=1, top_p=1e-6))
        same(greedy, self.text(temperature=1, extra_body={"min_p": 1.0}))
        assert self.text(extra_body={"repetition_penalty": 1.3}), "no text"

    # Streams

    def stream(self, prompt=None, **options):
        chunks = list(self.create(prompt, stream=True, **options))
        assert chunks, "no chunks"
        assert all(chunk.object == "text_completion" and chunk.id == chunks[0].id for chunk in chunks)
        return chunks

    def check_stream(self):
        """the pieces of a stream are the text"""
        chunks = self.stream()
        choices = [choice for chunk in chunks for choice in chunk.choices]
        same(self.text(), "".join(choice.text for choice in choices))
        reasons = [choice.finish_reason for choice in choices]
        assert reasons[-1] == "length" and not any(reasons[:-1]), reasons
        assert all(chunk.usage is None for chunk in chunks), "usage, though nobody asked for it"
        return f"{len(chunks)} chunks"

    def check_stream_usage(self):
        """the last chunk of a stream has the usage"""
        chunks = self.stream(stream_options={"include_usage": True})
        assert chunks[-1].choices == [] and all(chunk.usage is None for chunk in chunks[:-1]), chunks[-1]
        same(self.create().usage, chunks[-1].usage)

    def check_stream_stop(self):
        """a stream holds back what may begin a stop string"""
        stop = part_of(self.text(), 3)
        chunks = self.stream(stop=[stop, "\u0001never\u0001"])
        choices = [choice for chunk in chunks for choice in chunk.choices]
        same(self.text(stop=[stop]), "".join(choice.text for choice in choices))
        assert choices[-1].finish_reason == "stop", choices[-1]

    def check_stream_n(self):
        """each choice of a stream with n=2 is the one without stream"""
        options = {"n": 2, "temperature": 0.8, "seed": 5}
        texts = {}
        for chunk in self.stream(**options):
            for choice in chunk.choices:
                texts[choice.index] = texts.get(choice.index, "") + choice.text
        same([choice.text for choice in self.create(**options).choices], [texts[idx] for idx in sorted(texts)])

    def check_stream_logprobs(self):
        """the logprobs of a stream with echo are those without stream"""
        options = {"echo": True, "logprobs": 2, "max_tokens": 8}
        whole = self.create(**options).choices[0].logprobs
        parts = [choice.logprobs for chunk in self.stream(**options) for choice in chunk.choices if choice.logprobs]
        for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            joined = [value for part in parts for value in getattr(part, key)]
            close(getattr(whole, key), joined, key)

    def check_vanished_client(self):
        """a client that leaves in mid-stream does not harm the next one"""
        expected = self.text()
        stream = self.create(stream=True, max_tokens=2000)
        for _ in range(3):
            next(stream)
        stream.close()
        start = time.monotonic()
        same(expected, self.text())
        return f"the next answer took {time.monotonic() - start:.2f} s"

    # Several choices and prompts

    def check_n(self):
        """n=3 gives three choices in order, greedy ones alike, drawn ones not"""
        greedy = self.create(n=3).choices
        assert [choice.index for choice in greedy] == [0, 1, 2], greedy
        same([self.text()] * 3, [choice.text for choice in greedy])
        drawn = self.create(n=3, temperature=0.8, seed=1).choices
        assert [choice.index for choice in drawn] == [0, 1, 2], drawn
        assert len({choice.text for choice in drawn}) > 1, f"all alike: {drawn[0].text!r}"
        same(drawn, self.create(n=3, temperature=0.8, seed=1).choices)

    def check_prompts(self):
        """a list of prompts gives what each gives alone, in order"""
        answer = self.create(OTHERS[:3])
        assert [choice.index for choice in answer.choices] == [0, 1, 2], answer.choices
        same([self.text(prompt) for prompt in OTHERS[:3]], [choice.text for choice in answer.choices])

    def check_prompts_n(self):
        """two prompts with n=2: index = prompt x n + choice"""
        answer = self.create(OTHERS[:2], n=2)
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3], answer.choices
        first, second = (self.text(prompt) for prompt in OTHERS[:2])
        same([first, first, second, second], [choice.text for choice in answer.choices])

    def check_tokens(self):
        """a prompt of tokens gives what its text gives"""
        if self.args.tokens is None:
            return skipped("no --tokens")
        text, tokens = self.args.tokens["text"], self.args.tokens["tokens"]
        expected = self.create(text, echo=True)
        num_tokens = expected.usage.prompt_tokens
        assert num_tokens == len(tokens), f"the server makes {num_tokens} tokens of it"
        for prompt in (tokens, [tokens]):
            answer = self.create(prompt, echo=True)
            same(expected.choices[0].text, answer.choices[0].text)
            same(expected.usage, answer.usage)
        answer = self.create([tokens, tokens], echo=True)
        same([expected.choices[0].text] * 2, [choice.text for choice in answer.choices])

    # Stop strings

    def check_stop(self):
        """a stop string cuts the text, finish_reason is stop"""
        whole = self.text()
        stop = part_of(whole, 2)
        for form in (stop, [stop], ["\u0001never\u0001", stop]):
            choice = self.create(stop=form).choices[0]
            same(whole[: whole.index(stop)], choice.text)
            assert choice.finish_reason == "stop", choice

    def check_no_stop(self):
        """stop=None and stop=[] cut nothing"""
        whole = self.text()
        for form in (None, []):
            same(whole, self.text(stop=form))

    def check_stop_with_logprobs(self):
        """with a stop string, the four lists of logprobs are equally long"""
        stop = part_of(self.text(), 2)
        choice = self.create(stop=[stop], logprobs=1, echo=True).choices[0]
        equally_long(choice.logprobs)

    # Scores

    def check_echo_scores(self):
        """echo, logprobs=5 and max_tokens=0 score the prompt"""
        answer = self.create(echo=True, logprobs=5, max_tokens=0)
        choice, usage = answer.choices[0], answer.usage
        same(self.prompt, choice.text)
        assert choice.finish_reason == "length" and usage.completion_tokens == 0, answer
        scores = choice.logprobs
        assert len(scores.tokens) == usage.prompt_tokens, f"{len(scores.tokens)} tokens, {usage}"
        right_scores(scores, choice.text, 5)
        return f"{-sum(scores.token_logprobs[1:]) / 0.6931471805599453 / len(self.prompt):.3f} bits/byte"

    def check_echo_scores_1(self):
        """max_tokens=1 scores one token more, the prompt the same"""
        prompt_only = self.create(echo=True, logprobs=5, max_tokens=0).choices[0].logprobs
        answer = self.create(echo=True, logprobs=5, max_tokens=1)
        choice, usage = answer.choices[0], answer.usage
        assert usage.completion_tokens == 1 and len(choice.logprobs.tokens) == usage.prompt_tokens + 1, answer
        right_scores(choice.logprobs, choice.text, 5)
        close(prompt_only.token_logprobs, choice.logprobs.token_logprobs[:-1], "token_logprobs")
        greedy = choice.logprobs.token_logprobs[-1] == max(choice.logprobs.top_logprobs[-1].values())
        assert greedy, "the greedy token is not the likeliest one"

    def check_scores_without_echo(self):
        """logprobs without echo score only the new tokens"""
        choice = self.create(logprobs=3, max_tokens=6).choices[0]
        equally_long(choice.logprobs)
        assert len(choice.logprobs.tokens) == 6, choice.logprobs
        if is_ascii(choice.text):
            same(choice.text, "".join(choice.logprobs.tokens))
        both = self.create(logprobs=3, max_tokens=6, echo=True).choices[0]
        close(both.logprobs.token_logprobs[-6:], choice.logprobs.token_logprobs, "token_logprobs")

    def check_scores_0(self):
        """logprobs=0 scores the tokens and names no others"""
        scores = self.create(logprobs=0, max_tokens=4, echo=True).choices[0].logprobs
        expected = self.create(logprobs=1, max_tokens=4, echo=True).choices[0].logprobs
        close(expected.token_logprobs, scores.token_logprobs, "token_logprobs")
        assert all(len(top or {}) <= 1 for top in scores.top_logprobs or []), scores.top_logprobs

    def check_scores_of_other_letters(self):
        """a prompt that is not ASCII comes back whole and is scored"""
        choice = self.create(NOT_ASCII, echo=True, logprobs=5, max_tokens=0).choices[0]
        same(NOT_ASCII, choice.text)
        equally_long(choice.logprobs)
        assert all(score <= 0 for score in choice.logprobs.token_logprobs[1:]), choice.logprobs.token_logprobs
        offsets = choice.logprobs.text_offset
        assert offsets == sorted(offsets) and offsets[0] == 0 and offsets[-1] < len(NOT_ASCII), offsets

    # Sessions

    def check_session(self):
        """a session needs only what is new"""
        text = self.prompt + " thirteen. Winston Smith slipped quickly through the glass doors of the house"
        cut = len(self.prompt)
        session = {"session": f"check-{uuid.uuid4()}"}
        self.create(text[:cut], max_tokens=0, echo=True, extra_body=session)
        same(self.text(text), self.text(text[cut:], extra_body=session))

    def check_session_goes_on(self):
        """a session goes on after its own answers"""
        session = {"session": f"check-{uuid.uuid4()}"}
        options = {"echo": True, "logprobs": 0, "extra_body": session}
        first = self.create(max_tokens=8, **options).choices[0]
        second = self.create(" and then", max_tokens=16, **options).choices[0]
        if not is_ascii(first.text + second.text):
            return skipped("the answer is not ASCII")
        parts = first.logprobs.tokens + second.logprobs.tokens
        whole = self.create(first.text + " and then", max_tokens=16, echo=True, logprobs=0).choices[0]
        if whole.logprobs.tokens[: len(parts) - 16] != parts[: len(parts) - 16]:
            return skipped("the text as one has other tokens than its parts")
        same(whole.text, first.text + second.text)
        close(whole.logprobs.token_logprobs[-16:], second.logprobs.token_logprobs[-16:], "token_logprobs")
        # Whether the first token of a later request has a score is the server's choice: it knows what came before.
        known = first.logprobs.token_logprobs + second.logprobs.token_logprobs
        expected = [score if other is not None else None for score, other in zip(whole.logprobs.token_logprobs, known)]
        close(expected, known, "token_logprobs")
        assert known.count(None) <= 2, known

    def check_sessions_are_apart(self):
        """two sessions in turn do not mix"""
        names = [{"session": f"check-{uuid.uuid4()}"} for _ in range(2)]
        for prompt, session in zip(OTHERS[:2], names):
            self.create(prompt, max_tokens=0, echo=True, extra_body=session)
        texts = [self.text(" and the", extra_body=session) for session in names]
        same([self.text(prompt + " and the") for prompt in OTHERS[:2]], texts)

    # Many at once

    def check_concurrent(self):
        """eight at once give what each gives alone"""
        alone = [self.text(prompt) for prompt in OTHERS]
        with ThreadPoolExecutor(len(OTHERS)) as pool:
            together = list(pool.map(self.text, OTHERS))
        same(alone, together)

    def check_concurrent_draws(self):
        """eight at once with seeds give what each gives alone"""
        draw = lambda idx: self.text(OTHERS[idx], temperature=0.8, seed=idx)
        alone = [draw(idx) for idx in range(len(OTHERS))]
        with ThreadPoolExecutor(len(OTHERS)) as pool:
            together = list(pool.map(draw, range(len(OTHERS))))
        same(alone, together)

    # Mistakes

    def check_unknown_field(self):
        """an unknown field is a mistake, and is named"""
        error = raises(openai.BadRequestError, lambda: self.create(extra_body={"temprature": 1}))
        assert "temprature" in error.message, error
        assert error.type and isinstance(error.body.get("message"), str), error.body
        return error.body["message"]

    def check_negative_temperature(self):
        """a negative temperature is a mistake, with and without stream"""
        error = raises(openai.BadRequestError, lambda: self.create(temperature=-1))
        assert "temperature" in error.message, error
        raises(openai.BadRequestError, lambda: self.create(temperature=-1, stream=True))
        return error.body["message"]

    def check_wrong_type(self):
        """a word for a number is a mistake"""
        error = raises(openai.BadRequestError, lambda: self.create(extra_body={"max_tokens": "ten"}))
        return error.body["message"]

    def check_wrong_model(self):
        """a model that is not there is not found"""
        call = lambda: self.client.completions.create(model="no-such-model", prompt="a", max_tokens=1)
        error = raises(openai.NotFoundError, call)
        return error.body["message"]

    def check_wrong_path(self):
        """chat completions are not found"""
        messages = [{"role": "user", "content": "a"}]
        error = raises(
            openai.NotFoundError, lambda: self.client.chat.completions.create(model=self.model, messages=messages)
        )
        assert isinstance(error.body, dict) and error.body.get("message"), f"no message: {error.body!r}"

    def check_wrong_key(self):
        """a wrong key is refused"""
        if self.args.api_key is None:
            return skipped("no --api-key")
        client = self.new_client(self.args.api_key + "x")
        error = raises(
            openai.AuthenticationError, lambda: client.completions.create(model=self.model, prompt="a", max_tokens=1)
        )
        return error.body["message"]

    def check_still_there(self):
        """after all of that the server still answers"""
        same(self.text(), self.text())


class Skipped(str):
    """Why a check was not made."""


def skipped(why):
    return Skipped(why)


def is_ascii(text):
    return text.isascii()


def same(expected, got):
    assert expected == got, f"expected {expected!r}, got {got!r}"


def close(expected, got, what):
    """Equal but for a rounding of 1e-3: a batch may add in another order."""
    assert len(expected) == len(got), f"{what}: {len(expected)} and {len(got)} values"
    for idx, (one, other) in enumerate(zip(expected, got)):
        if isinstance(one, float) and isinstance(other, (int, float)):
            assert abs(one - other) <= 1e-3, f"{what}[{idx}]: {one} and {other}"
        elif not isinstance(one, dict):
            assert one == other, f"{what}[{idx}]: {one!r} and {other!r}"


def equally_long(scores):
    lists = [scores.tokens, scores.token_logprobs, scores.text_offset, scores.top_logprobs or scores.tokens]
    assert len({len(values) for values in lists}) == 1, [len(values) for values in lists]


def right_scores(scores, text, num_top):
    """Checks scores that begin with the first token of a text."""
    equally_long(scores)
    assert scores.token_logprobs[0] is None, f"the first token has nothing before it: {scores.token_logprobs[0]}"
    assert not scores.top_logprobs[0], scores.top_logprobs[0]
    assert all(score is not None and score <= 0 for score in scores.token_logprobs[1:]), scores.token_logprobs
    if is_ascii(text):
        same(text, "".join(scores.tokens))
        for token, offset in zip(scores.tokens, scores.text_offset):
            same(token, text[offset : offset + len(token)])
    for token, score, top in list(zip(scores.tokens, scores.token_logprobs, scores.top_logprobs))[1:]:
        assert num_top <= len(top) <= num_top + 1, f"{len(top)} of the likeliest, {num_top} wanted; one name twice?"
        assert score <= max(top.values()), f"{token!r} is likelier than the likeliest"
        assert token not in top or top[token] == score, f"{token!r}: {score} and {top[token]}"


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    except openai.APIError as error:
        raise AssertionError(f"expected {kind.__name__}, got {type(error).__name__}: {error}") from None
    raise AssertionError(f"expected {kind.__name__}, got an answer")


def part_of(text, length):
    """A part of a text, from its middle; where it comes first is where a text with this stop string ends."""
    middle = len(text) // 2
    part = text[middle : middle + length]
    assert len(part) == length, f"too little text: {text!r}"
    return part


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base_url", help="with /v1 at its end")
    parser.add_argument("--api-key")
    parser.add_argument("--model")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--tokens")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one answer")
    parser.add_argument("--only", default="", help="only checks with this in their name")
    args = parser.parse_args()
    if args.tokens is not None:
        is_file = not args.tokens.lstrip().startswith("{")
        args.tokens = json.loads(pathlib.Path(args.tokens).read_text() if is_file else args.tokens)
    checks = Checks(args)
    counts = {"ok": 0, "FAILED": 0, "skipped": 0}
    for name, check in list(vars(Checks).items()):
        is_wanted = args.only in name or name == "check_models_list"
        if not name.startswith("check_") or not is_wanted:
            continue
        start = time.monotonic()
        try:
            note = check(checks)
            outcome = "skipped" if isinstance(note, Skipped) else "ok"
        except AssertionError as error:
            outcome, note = "FAILED", str(error) or traceback.format_exc(limit=-1)
        except Exception as error:  # Each of the other checks still has its say.
            where = traceback.extract_tb(error.__traceback__)
            line = [frame.lineno for frame in where if frame.filename == __file__][-1]
            outcome, note = "FAILED", f"{type(error).__name__} in line {line}: {error}"
        counts[outcome] += 1
        seconds = time.monotonic() - start
        print(f"{outcome:7} {check.__doc__}" + (f": {note}" if note else "") + f" [{seconds:.2f} s]", flush=True)
        if checks.model is None:
            print("without a model there is nothing to check")
            break
    print(f"{counts['ok']} passed, {counts['FAILED']} failed, {counts['skipped']} skipped")
    sys.exit(counts["FAILED"] > 0)


if __name__ == "__main__":
    main()
