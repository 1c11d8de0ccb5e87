"""The Python API: docs/python.md as it stands, and what a notebook shows."""

import re

import pytest
from conftest import ROOT
from evaluation_data import HOSTILE, evaluation, meta
from report_data import report_of

from lmaas.analysis.errors import UserError
from lmaas.reports import api
from lmaas.reports.html import fragment

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)


@pytest.fixture
def log(home):
    """An hour of requests under the documents' name."""
    rows = [f"{3 * k},{100 + k % 50},{10 + k % 7}" for k in range(1200)]
    (home.parent / "log.csv").write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]) + "\n")
    return home


def test_the_examples_run_one_after_another(log):
    names = {}
    for example in EXAMPLES:
        exec(compile(example, "docs/python.md", "exec"), names)
    assert (log.parent / "workload.html").read_text().startswith("<!doctype html>")
    assert names["tried"].result.scores["policy"].to_list()[:2] == ["hpa", "static(replicas=2)"]
    code = names["tried"].report.sections[-1].code
    assert "api.evaluate('log.csv', ['hpa', 'static(replicas=2)'], slo=" in code
    shown = names["tried"]._repr_html_()
    assert names["tried"].to_json()["sections"][0]["finding"] in shown
    assert "GPU-h" in shown


def test_a_notebook_gets_escaped_text_and_nothing_that_runs():
    result = evaluation({f"mine('{HOSTILE}')": "policy"}, (HOSTILE,), (HOSTILE,), trace=meta(name=HOSTILE))
    shown = fragment(report_of(result))
    assert "&lt;script&gt;" in shown
    assert not re.search(r"<(script|style|img|link|iframe)|\son\w+=", shown)
    assert shown.count("<table>") >= 2  # the tiles and the policies


def test_what_is_no_trace_is_the_users_error(home):
    with pytest.raises(UserError, match="nowhere"):
        api.analyze("nowhere.csv")


def test_the_signature_is_the_verbs_own():
    assert "train_fraction" in str(__import__("inspect").signature(api.evaluate))
    assert api.analyze.__doc__ and api.analyze.__name__ == "analyze"
