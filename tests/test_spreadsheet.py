"""What leaves lmaas as CSV or HTML: names of a trace that are formulas or markup stay text."""

import csv
import re
from pathlib import Path

import polars as pl
import pytest
from evaluation_data import REQUESTS, evaluation
from hypothesis import given
from hypothesis import strategies as st
from report_data import figures_of, report_of, trace_of

from lmaas.analysis.characterise import analyze
from lmaas.reports.document import dumps
from lmaas.reports.html import html
from lmaas.reports.report import analysis_report
from lmaas.reports.spreadsheet import harmless, write_csv
from lmaas.reports.write import write_requests

FORMULAS = [
    "=1+1",
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "  =1",
    "=HYPERLINK(\"http://x/\"&A1)",
    "＝1+1",
    "a;=1",
    'a"\n=1',
    "=cmd|' /C calc'!A0",
]  # fmt: skip
LINKS = ('<a href="javascript:alert(1)">x</a>', "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>")


def cells(path: Path, delimiter: str) -> list[str]:
    with path.open(newline="") as file:
        return [cell for row in csv.reader(file, delimiter=delimiter) for cell in row]


def starts_a_formula(cell: str) -> bool:
    return cell.startswith(("\t", "\r")) or cell.lstrip(" \t\r\n")[:1] in tuple("=+-@＝＋－＠")


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_request_rows_as_csv_hold_no_formula(tmp_path: Path, name: str, delimiter: str):
    rows = REQUESTS.with_columns(request_id=pl.lit(name), pool=pl.lit(name).cast(pl.Categorical))
    write_requests({name: rows, "other": rows}, tmp_path / "r.csv")
    assert [cell for cell in cells(tmp_path / "r.csv", delimiter) if starts_a_formula(cell)] == []
    read = pl.read_csv(tmp_path / "r.csv")
    assert read["ttft_s"].to_list() == [0.5, None] * 2
    assert all(value.replace("'", "") == name.replace("'", "") for value in read["pool"])


def test_plain_names_and_numbers_are_written_as_they_are(tmp_path: Path):
    rows = pl.DataFrame({"id": ["llama-3", "a=b", "x@y", None, ""], "n": [-1.5, 2.0, None, 0.0, 1.0]})
    write_csv(rows, tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text() == 'id,n\nllama-3,-1.5\na=b,2.0\nx@y,\n,0.0\n"",1.0\n'


@given(st.text("=+-@\t\r\n;,|\"' ax＝", max_size=8))
def test_no_text_begins_a_formula_in_any_cell_it_may_be_split_into(text: str):
    written = pl.DataFrame({"t": [text]}).select(harmless(pl.col("t"))).item()
    assert re.search(r"(^|[;,|\t\r\n])[ \t]*[=+\-@＝]", written) is None
    assert written[:1] not in ("\t", "\r")
    assert written.replace("'", "") == text.replace("'", "")


def test_jsonl_keeps_names_as_they_are(tmp_path: Path):
    write_requests({"p": REQUESTS.with_columns(request_id=pl.lit("=1+1"))}, tmp_path / "r.jsonl")
    assert pl.read_ndjson(tmp_path / "r.jsonl")["request_id"].to_list() == ["=1+1"] * REQUESTS.height


@pytest.mark.parametrize("name", LINKS)
def test_pages_and_their_figures_hold_no_markup_of_a_trace(tmp_path: Path, name: str):
    names = [name if i % 2 else "chat" for i in range(2000)]
    trace = trace_of(tmp_path, 2000, service=names, tenant=names, region=names)
    found = evaluation(services=(name,), regions=(name,), roles={"preserve": "policy", f"mine('{name}')": "policy"})
    for report in (analysis_report(analyze(trace), ["analyze"], "run-1"), report_of(found)):
        page = html(report)
        assert name not in page
        assert page.lower().count("<script") == 3
        drawn = [dumps(figure.spec) for figure in figures_of(report)]
        assert drawn
        assert [spec for spec in drawn if re.search(r"<(a|img|script|/script)\b", spec)] == []
