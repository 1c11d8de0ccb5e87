"""`--where`: what an expression may ask, and that it can do nothing else."""

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import polars as pl
import pytest
from trace_data import storer, table

from lmaas.analysis import where, where_child
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.trace import SCHEMA

ROWS = 3000


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a[1] it's")  # signs that a pattern or a text of SQL would stumble over
    rows = table(
        arrival_s=np.arange(ROWS) * 1.0,
        input_tokens=np.arange(ROWS),
        service=["a", "b", "c"] * (ROWS // 3),
        source_row=np.arange(ROWS),
        block_hashes=[[k, k + 1] for k in range(ROWS)],
    )
    return storer(folder)(rows.drop("request_id", "region"))  # as ingest leaves out what a source has not


def kept(trace, expression, **period):
    """In this process, so that a failure shows; the command's own way is tested below."""
    asked = {
        "path": str(trace.path),
        "where": expression,
        "since_s": None,
        "until_s": None,
        "rows": ROWS,
        "memory": 4 << 30,
        "columns": {name: str(dtype) for name, dtype in SCHEMA.items()},
    }
    bits = where_child.answer(asked | period)
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=ROWS).astype(bool)


@pytest.fixture
def plain_folder(trace, monkeypatch):
    monkeypatch.chdir(trace.path.parent)
    return SimpleNamespace(path=trace.path.name)


@pytest.mark.parametrize(
    ("expression", "same"),
    [
        ("input_tokens > 100 and service <> 'a'", (pl.col("input_tokens") > 100) & (pl.col("service") != "a")),
        ("service = 'nobody'", pl.lit(False)),
        ("service in ('a', 'b') -- those two", pl.col("service").is_in(["a", "b"])),
        ("region is null", pl.lit(True)),
        ("region = 'eu'", pl.lit(False)),
        ("request_id = '17'", pl.col("source_row") == 17),
        ("len(block_hashes) = 2 and block_hashes[1] < 5", pl.col("source_row") < 5),
        ("list_sum([input_tokens, 1]) > 100", pl.col("input_tokens") > 99),
        ("arrival_s between 10 and 20", pl.col("arrival_s").is_between(10, 20)),
        ("trace.input_tokens % 2 = 1", pl.col("input_tokens") % 2 == 1),
        (
            "case when service = 'a' then input_tokens > 5 end",
            (pl.col("service") == "a") & (pl.col("input_tokens") > 5),
        ),
        ("true or 1 = 1", pl.lit(True)),
    ],
)
def test_it_keeps_what_polars_would(trace, plain_folder, expression, same):
    expected = trace.scan().select(same.fill_null(False).alias("x") & (pl.col("source_row") >= 0)).collect()["x"]
    assert (kept(plain_folder, expression) == expected.to_numpy()).all()


def test_rows_outside_the_period_are_not_looked_at(plain_folder):
    # the cast fails on every row but those of the period
    only = "case when arrival_s < 10 or arrival_s >= 12 then service::int > 0 else true end"
    found = kept(plain_folder, only, since_s=10.0, until_s=12.0)
    assert np.flatnonzero(found).tolist() == [10, 11]


HOSTILE = {
    "": "is empty",
    "  ": "is empty",
    "true; drop view trace": "more than one statement",
    "true; select 1": "more than one statement",
    "true from read_csv('/etc/passwd')": "FROM clause",
    "true, true": "single expression",
    "true union select true": "set operation",
    "true limit 1": "modifier",
    "true) or (true": "syntax error",
    "true /*": "unterminated",
    "*": "several columns",
    "columns('.*_tokens') > 1": "several columns",
    "input_tokens > ?": "parameter",
    "input_tokens > $1": "parameter",
    "input_tokens": "not true or false, but UINTEGER",
    "null": "not true or false, but NULL",
    "tokens > 1": "Referenced column",
    "isodd(input_tokens)": "does not exist",
    "service::int > 1": "Could not convert",
    "(select true)": "sub-select",
    "input_tokens in (select 1)": "sub-select",
    "exists(select * from read_text('/etc/passwd'))": "sub-select",
    "(with recursive t as (select 1 union all select 1 from t) select count(*) from t) > 0": "sub-select",
    "pg_get_viewdef(1) = ''": "sub-select",
    "read_csv('/etc/passwd')": "table function",
    "read_text('/etc/passwd') = ''": "table function",
    "glob('/*') = ''": "table function",
    "query('select 1')": "table function",
    "getenv('HOME') = ''": "does not exist",
    "current_setting('allowed_paths') is null": "another answer",
    "getvariable('x') = 1": "another answer",
    "random() < 0.1": "hash(source_row)",
    "now() > now()": "another answer",
    "sleep_ms(100000) is null": "another answer",
    "pg_sleep(1000) is null": "another answer",
    "write_log('x') is null": "another answer",
    "nextval('x') > 1": "another answer",
    "error('x')": "another answer",
    "count(*) > 1": "of many rows",
    "max(input_tokens) > 1": "of many rows",
    "sum(input_tokens) over () > 1": "window function",
    "unnest([true, false])": "UNNEST",
    "COPY trace TO 'stolen.csv'": "syntax error",
    "ATTACH 'other.db'": "does not exist",
    "INSTALL httpfs": "syntax error",
    "LOAD httpfs": "syntax error",
    "PRAGMA version": "syntax error",
    "SET memory_limit = '1TB'": "syntax error",
    "length(repeat('a', 1000000000000)) > 1": "Cannot create a string",
    "(" * 3000 + "true" + ")" * 3000: "depth limit",
}


@pytest.mark.parametrize("expression", HOSTILE)
def test_hostile_expressions_are_refused(plain_folder, expression):
    with pytest.raises((where_child.Refused, duckdb.Error)) as caught:
        kept(plain_folder, expression)
    assert HOSTILE[expression] in str(caught.value)
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["trace.parquet"]


def test_the_database_can_read_the_trace_and_nothing_else(trace, plain_folder, tmp_path):
    """Even where an expression got past the checks."""
    (tmp_path / "secret.csv").write_text("a\n1\n")
    database = where_child.closed(trace.path.name, 1 << 30)
    assert database.execute("SELECT count(*) FROM 'trace.parquet'").fetchall() == [(ROWS,)]
    for statement in (
        f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
        f"SELECT * FROM read_text('{tmp_path}/secret.csv')",
        "SELECT * FROM glob('/*')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/out.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/']",
        "SELECT * FROM SCHEMA",
    ):
        with pytest.raises(duckdb.Error):
            database.execute(statement)
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]


def test_a_process_of_its_own_answers(trace):
    found = where.true_rows(trace, "input_tokens < 5 and service <> 'b'", until_s=4.0)
    assert np.flatnonzero(found).tolist() == [0, 2, 3]


def test_a_refusal_names_the_expression_the_reason_and_the_columns(trace):
    with pytest.raises(UserError) as caught:
        where.true_rows(trace, "tokens > 1 \x1b[31m")
    assert caught.value.code == Exit.USAGE
    said = str(caught.value)
    assert said.startswith("--where 'tokens > 1 \\x1b")
    with pytest.raises(UserError, match=r"--where 'tokens > 1': Referenced column.* columns: request_id, arrival_s"):
        where.true_rows(trace, "tokens > 1")


def test_time_is_limited(trace, monkeypatch):
    monkeypatch.setattr(where, "TIME_LIMIT_S", 3.0)
    endless = "levenshtein(repeat('a', 30000 + input_tokens::int), repeat('b', 30000)) > 0"
    with pytest.raises(UserError, match="took longer than 3 s"):
        where.true_rows(trace, endless)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on addresses")
@pytest.mark.parametrize("greedy", ["length(repeat('a', 4000000000)) > 1", "len(range(2000000000 + input_tokens)) > 0"])
def test_memory_is_limited(trace, greedy):
    with pytest.raises(UserError, match="more memory than there is"):
        where.true_rows(trace, greedy)


def test_a_file_in_the_folder_is_not_taken_for_duckdb(trace, monkeypatch):
    stray = trace.path.with_name("duckdb.py")
    stray.write_text("raise SystemExit(7)")
    try:
        assert where.true_rows(trace, "true").all()
    finally:
        stray.unlink()


def test_the_child_speaks_in_exit_codes(plain_folder, monkeypatch):
    monkeypatch.setattr(where_child, "limit_memory", lambda size: None)  # not of this process

    def ask(expression):
        asked = {"path": plain_folder.path, "where": expression, "since_s": None, "until_s": None, "rows": ROWS}
        asked |= {"memory": 4 << 30, "columns": {"arrival_s": "Float64"}}
        out = io.BytesIO()
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asked)))
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out))
        return where_child.main(), out.getvalue()

    assert ask("arrival_s < 8") == (0, b"\xff" + bytes(ROWS // 8 - 1))
    assert ask("arrival_s") == (2, b"is not true or false, but DOUBLE")
    code, said = ask("tokens < 8")
    assert (code, said[:17]) == (2, b"Referenced column")
