"""The Python API: docs/python.md as it stands, and what a notebook shows."""

import re

import pytest
from calibration_data import log_of, truth, written
from conftest import ROOT
from evaluation_data import HOSTILE, evaluation, meta, scores
from report_data import report_of

from lmaas.analysis.errors import UserError
from lmaas.analysis.lengths.modelfile import save
from lmaas.analysis.workspace import Workspace
from lmaas.reports import api
from lmaas.reports.html import fragment
from lmaas.reports.write import recording, write_evaluation

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


def test_a_model_is_applied_and_runs_are_compared(log, tmp_path):
    learnt = api.train("log.csv", kind="median").result
    save(learnt.predictor, learnt.facts, tmp_path / "model.json")
    told = api.predict("log.csv", tmp_path / "model.json")
    assert told.result.predictions.height == 1200 and told.report.kind == "predict"
    assert f"api.predict('log.csv', '{tmp_path / 'model.json'}')" in told.report.sections[-1].code
    again = api.predict("log.csv", tmp_path / "model.json", generated=40)
    assert set(again.result.predictions["generated_tokens"]) == {40}
    assert again.report.sections[-1].code.endswith("generated=40)")
    runs = []
    for hours in ([400.0, 700.0], [300.0, 700.0]):
        roles = {"preserve": "policy", "static-peak": "baseline"}
        found = evaluation(roles, scores=scores(roles, gpu_hours_provisioned=hours))
        with recording(Workspace.open(), "evaluate", "p", ["evaluate"], {}, None) as run:
            runs.append(write_evaluation(found, run).run)
    beside = api.compare(*runs, fail_if=["gpu_hours<-1%"])
    assert beside.result.exit_code == 3
    shown = beside._repr_html_()
    assert "GPU-h" in shown and "<table>" in shown
    beside.save(tmp_path / "compared.html")
    assert "comparison</span>" in (tmp_path / "compared.html").read_text()


def test_a_log_is_calibrated(log, tmp_path):
    path = written(log_of(truth()), tmp_path / "observed.parquet")
    found = api.calibrate(path, max_seqs=truth().max_seqs, max_batch_tokens=truth().max_batch_tokens)
    assert found.result.tested_n > 0 and found.result.profile.provenance == "calibrated"
    assert "TTFT" in found._repr_html_() and "calibrated" in found.report.title
    with pytest.raises(UserError, match="observed"):
        api.calibrate("log.csv")
