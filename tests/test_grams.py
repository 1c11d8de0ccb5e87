"""Hashed words of prompts: the bits a slow reading sets, of the question alone, and no text anywhere."""

import json
import re
import subprocess
import sys
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.analysis.anonymise import Anonymiser
from lmaas.analysis.formats.prompts import question
from lmaas.analysis.grams import BITS, EDGE, WORDS, bits_of, hashed
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace

MASK = 2**64 - 1
CHARACTER = re.compile(rb"[\xc0-\xff][\x80-\xbf]*|.", re.DOTALL)


def scrambled(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & MASK
    return value ^ (value >> 31)


def fnv(word: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in word:
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def words_of(raw: bytes) -> list[bytes]:
    found, run = [], b""
    for character in CHARACTER.findall(raw):
        first = character[0]
        alone, of_a_word = first >= 0xE3, first != 0xE2 and (first >= 0x80 or character.isalnum())
        if of_a_word and not alone:
            run += character.lower()
            continue
        found += [run, character] if alone else [run]
        run = b""
    return [word for word in [*found, run] if word]


def slow(text: str) -> set[int]:
    """The numbers of the bits, by the words of the docs."""
    raw = text.encode()
    parts = [raw] if len(raw) <= 2 * EDGE else [raw[:EDGE], raw[-EDGE:]]
    words = [scrambled(fnv(word)) for part in parts for word in words_of(part)]
    words = words if len(words) <= 2 * WORDS else words[:WORDS] + words[-WORDS:]
    pairs = [scrambled((3 * a + b) & MASK) for a, b in pairwise(words)]
    return {h >> 57 for h in words + pairs}


def fast(text: str) -> set[int]:
    return set(bits_of(hashed(pl.Series([text]))).nonzero()[1].tolist())


@pytest.mark.parametrize(
    "text",
    ["Write a poem", "write A poem!", "naïve Übung", "“quoted”—words", "中文字 and 日本", "a1 b2", "x " * 600,
     " ".join(f"w{i}" for i in range(100)), "one", ". , !"],
)  # fmt: skip
def test_bits_are_those_of_a_slow_reading(text):
    assert fast(text) == slow(text)


@given(st.text(alphabet=st.sampled_from("aB9 ,\n-é中“ßж"), max_size=700))
def test_bits_of_any_text_are_those_of_a_slow_reading(text):
    assert fast(text) == slow(text)


def test_nothing_and_no_word_are_null_and_slices_are_rows_of_their_own():
    texts = pl.Series(["", None, "a b", "...", "c"])
    made = hashed(texts)
    assert made.is_null().to_list() == [True, True, False, True, False]
    assert hashed(texts[2:4]).to_list() == made[2:4].to_list()
    assert bits_of(made).shape == (5, BITS) and bits_of(made)[1].sum() == 0


def test_every_process_sets_the_same_bits():
    code = "import polars as pl; from lmaas.analysis.grams import hashed; print(hashed(pl.Series(['Write a poem']))[0])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert told == hashed(pl.Series(["write a poem"]))[0]


USER = {"role": "user", "content": "write a poem"}


@pytest.mark.parametrize(
    "value",
    [
        "write a poem",
        [USER],
        json.dumps([{"role": "system", "content": "be brief"}, USER]),
        [USER, {"role": "assistant", "content": "roses are red"}],  # logged with its answer
        [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}, USER],
        {"messages": [USER]},
        {"prompt": "write a poem"},
        [{"role": "user", "content": [{"type": "text", "text": "write"}, {"type": "image_url"},
                                      {"type": "text", "text": "a poem"}]}],
        [{"role": "user", "parts": [{"type": "text", "content": "write a poem"}]}],
        ["hello", "write a poem"],
    ],
)  # fmt: skip
def test_the_question_is_the_last_thing_the_user_said(value):
    assert question(value) == "write a poem"


@pytest.mark.parametrize(
    "value",
    [None, {}, [], "{}", "[]", 7, [7], [{"role": "assistant", "content": "x"}], {"messages": 7}, [{"role": "user"}],
     {"role": "user", "content": {"a": 1}}],
)  # fmt: skip
def test_what_holds_no_question_has_none(value):
    assert not question(value)


SECRET = "the launch code is swordfish"
LITELLM = {"request_id": "r", "call_type": "acompletion", "startTime": "2026-11-01 10:00:00",
           "endTime": "2026-11-01 10:00:03", "model": "m", "prompt_tokens": 9, "completion_tokens": 5}  # fmt: skip
LANGFUSE = {"id": "o", "traceId": "t", "type": "GENERATION", "startTime": "2026-11-01T10:00:00Z",
            "endTime": "2026-11-01T10:00:03Z", "completionStartTime": None,
            "usageDetails": {"input": 9, "output": 5}}  # fmt: skip


def span(prompt: str, tokens: object = 9) -> dict:
    messages = [{"role": "user", "parts": [{"type": "text", "content": prompt}]}]
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": 5,
                  "gen_ai.input.messages": json.dumps(messages),
                  "gen_ai.output.messages": "swordfish indeed"}  # fmt: skip
    return {"span_id": "s", "start_time": "2026-11-01T10:00:00Z", "end_time": "2026-11-01T10:00:03Z",
            "attributes": attributes}  # fmt: skip


def wire(flat: dict) -> dict:
    kinds = {int: "intValue", str: "stringValue"}
    pairs = [{"key": k, "value": {kinds[type(v)]: v}} for k, v in flat["attributes"].items()]
    told = {"spanId": "s", "startTimeUnixNano": 1793527200000000000, "endTimeUnixNano": 1793527203000000000}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{**told, "attributes": pairs}]}]}]}


MESSAGES = [{"role": "user", "content": SECRET}]
LOGS = {
    "litellm": [{**LITELLM, "messages": MESSAGES, "response": "x"},
                {**LITELLM, "messages": MESSAGES, "prompt_tokens": -1}],
    "langfuse": [{**LANGFUSE, "input": {"messages": MESSAGES}, "output": "swordfish"},
                 {**LANGFUSE, "input": SECRET, "usageDetails": {"input": -9, "output": 5}}],
    "otel-flat": [{"trace_id": "t", "spans": [span(SECRET), span(SECRET, -1)]}],
    "otlp": [wire(span(SECRET)), wire(span(SECRET, -1))],
}  # fmt: skip


def kept_by(tmp_path, lines: list[dict], **asked) -> tuple[pl.DataFrame, bytes, list[str]]:
    """(the table, everything stored, decompressed, the columns with values)."""
    home = tmp_path / "home"
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    trace = ingest(tmp_path / "log.jsonl", Workspace.open(home), say=lambda _: None, **asked)
    stored = b"".join(
        str(pl.read_parquet(path).rows()).encode() if path.suffix == ".parquet" else path.read_bytes()
        for path in home.rglob("*")
        if path.is_file()
    )
    return trace.table(), stored, trace.meta.columns


@pytest.mark.parametrize("name", LOGS)
def test_formats_keep_the_bits_of_prompts_and_no_word(tmp_path, name):
    table, stored, _ = kept_by(tmp_path, LOGS[name])
    assert table["prompt_grams"].to_list() == hashed(pl.Series([SECRET])).to_list()
    assert b"negative" in stored  # the other row is set aside, without its prompt
    assert b"swordfish" not in stored and b"launch" not in stored


@pytest.mark.parametrize("name", LOGS)
def test_anonymised_traces_keep_no_bits(tmp_path, name):
    table, stored, columns = kept_by(tmp_path, LOGS[name], anonymiser=Anonymiser.of(None))
    assert "prompt_grams" not in columns and table["prompt_grams"].null_count() == table.height
    assert hashed(pl.Series([SECRET]))[0].encode() not in stored


def test_traces_without_prompts_have_no_such_column(tmp_path):
    table, _, columns = kept_by(tmp_path, [LITELLM])
    assert "prompt_grams" not in columns and table.height == 1
    path = next((tmp_path / "home").rglob("trace.parquet"))
    assert "prompt_grams" not in pl.read_parquet_schema(path)


def test_a_csv_sets_bad_rows_aside_without_their_prompts(tmp_path):
    head = [*LITELLM, "messages"]
    rows = [[*LITELLM.values(), json.dumps(MESSAGES)] for _ in range(2)]
    rows[1][head.index("prompt_tokens")] = -1
    pl.DataFrame([list(map(str, row)) for row in rows], schema=head, orient="row").write_csv(tmp_path / "log.csv")
    trace = ingest(tmp_path / "log.csv", Workspace.open(tmp_path / "home"), say=lambda _: None)
    assert trace.table()["prompt_grams"].to_list() == hashed(pl.Series([SECRET])).to_list()
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet"))
    assert rejects["reason"].to_list() == ["input_tokens negative"] and "swordfish" not in str(rejects.rows())


def test_a_mapped_column_is_hashed_and_a_stored_one_is_kept(tmp_path):
    mapping = {"arrival_s": "t", "input_tokens": "i", "output_tokens": "o", "prompt_grams": "asked"}
    lines = [{"t": 0, "i": 1, "o": 2, "asked": SECRET}, {"t": 1, "i": 1, "o": 2, "asked": None}]
    table, stored, _ = kept_by(tmp_path, lines, mapping=mapping, time_unit="s")
    assert table["prompt_grams"].to_list() == hashed(pl.Series([SECRET, None])).to_list() and b"swordfish" not in stored
    again = ingest(next((tmp_path / "home").rglob("trace.parquet")), Workspace.open(tmp_path / "b"), say=lambda _: None)
    assert again.table()["prompt_grams"].to_list() == table["prompt_grams"].to_list()


def test_other_texts_in_its_place_are_set_aside(tmp_path):
    good = {"arrival_s": 0, "input_tokens": 1, "output_tokens": 2}
    lines = [{**good, "prompt_grams": "0" * 32}, {**good, "prompt_grams": "0" * 31 + "g"}]
    table, stored, _ = kept_by(tmp_path, lines)
    assert table.height == 1 and b"prompt_grams not 32 hexadecimal digits" in stored
