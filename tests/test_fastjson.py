"""DuckDB's way to read JSONL gives the rows that the careful way gives, or none."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.analysis.formats.careful import MALFORMED, scan_carefully
from lmaas.analysis.formats.fastjson import scan_json, suits
from lmaas.analysis.formats.source import Source

COLUMNS = ("timestamp", "hash_ids")
FIRST = '{"timestamp": 0, "hash_ids": [1]}'
EXACT = [
    '{"timestamp": 1.50, "hash_ids": [18446744073709551615]}',
    '{"timestamp": 123456789012345678901234567890, "hash_ids": []}',
    '{"timestamp": null, "hash_ids": null}',
    '{"timestamp": true, "hash_ids": [null]}',
    '{"Timestamp": 1}',
    '{"timestamp": "a\\u00e9 \\u0000"}',
    "{}",
    "   ",
    '{"timestamp": 1e400}',
    '{"timestamp": NaN}',
]
LEFT_TO_OTHERS = [
    '{"timestamp": 1, "hash_ids": [1.5]}',
    '{"timestamp": 1, "hash_ids": ["12"]}',
    '{"timestamp": 1, "hash_ids": [1, true]}',
    '{"timestamp": 1, "hash_ids": [1e3]}',
    '{"timestamp": 1, "hash_ids": [-1]}',
    '{"timestamp": 1, "hash_ids": [18446744073709551616]}',
    '{"timestamp": 1, "hash_ids": 5}',
    '{"timestamp": 1, "hash_ids": "[5]"}',
    '{"timestamp": 1,}',
    '{"timestamp": 1, "timestamp": 2}',
    "null",
    "5",
    "[1]",
    '{"timestamp": 1',
    '{"timestamp": 1} {"timestamp": 2}',
    '{"timestamp": 01}',
    '{"timestamp": "\\ud800"}',
]


@pytest.fixture
def source(tmp_path):
    def _source(*lines: str) -> Source:
        path = tmp_path / "t.jsonl"
        path.write_text("\n".join([FIRST, *lines, FIRST]))
        return Source.open(path)

    return _source


def fast(source: Source) -> list[tuple]:
    return scan_json(source, COLUMNS, "row", "hash_ids").collect(engine="streaming").sort("row").rows()


def careful(source: Source) -> list[tuple]:
    rows = scan_carefully(source, COLUMNS, "row", "hash_ids").collect()
    assert rows[MALFORMED].null_count() == rows.height
    return rows.drop(MALFORMED).rows()


@pytest.mark.parametrize("line", EXACT)
def test_reads_what_the_careful_way_reads(source, line):
    assert fast(source(line)) == careful(source(line))


@pytest.mark.parametrize("line", LEFT_TO_OTHERS)
def test_leaves_lines_that_it_would_read_differently(source, line):
    with pytest.raises(pl.exceptions.PolarsError):
        fast(source(line))


def test_names_and_places_it_cannot_be_given(tmp_path, source):
    assert suits(source(), COLUMNS)
    assert not suits(source(), ("a b",))
    assert not suits(source(), ("a", "A"))
    folder = tmp_path / "work[1]"
    folder.mkdir()
    (folder / "t.jsonl").write_text(FIRST)
    assert not suits(Source.open(folder / "t.jsonl"), COLUMNS)


NUMBER = st.one_of(st.integers(0, 2**64), st.floats(), st.text("ab1", max_size=2), st.none(), st.booleans())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional={"timestamp": NUMBER, "hash_ids": st.lists(NUMBER) | NUMBER})))
def test_any_rows(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "t.jsonl"
    path.write_text("\n".join([FIRST, *map(json.dumps, rows)]))
    source = Source.open(path)
    try:
        found = fast(source)
    except pl.exceptions.PolarsError:
        return
    assert repr([(row, _number(text), hashes) for row, text, hashes in found]) == repr(
        [(row, _number(text), hashes) for row, text, hashes in careful(source)]
    )


def _number(text: str | None) -> float | str | None:
    """Numbers may be spelled differently."""
    try:
        return float(text or "")
    except ValueError:
        return text
