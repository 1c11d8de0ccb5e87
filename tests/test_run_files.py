"""What a run leaves behind, and the published form of metrics.json."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from evaluation_data import GATES, REQUESTS, ROLES, evaluation, scores
from report_data import trace_of

from lmaas.analysis import analyze, rundir
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.workspace import Workspace
from lmaas.reports import schema
from lmaas.reports.document import dumps
from lmaas.reports.evaluate import policies
from lmaas.reports.schema.scored import Scores
from lmaas.reports.write import check_requests_out, ending, recording, write_analysis, write_evaluation, write_requests

# ---- what a run leaves behind


def recorded(tmp_path: Path, result: Any, out: Path | None = None, **options: Any) -> Any:
    workspace = Workspace(tmp_path / "workspace")
    with recording(workspace, "evaluate", "preserve", ["evaluate"], {"attain": 0.99}, out) as run:
        return write_evaluation(result, run, **options)


def test_a_run_holds_everything_and_its_metrics_are_the_same_bytes_again(tmp_path: Path):
    first, second = (recorded(tmp_path, evaluation()) for _ in range(2))
    names = {p.name for p in first.run.iterdir()}
    assert {
        "manifest.json",
        "metrics.json",
        "report.html",
        "report.json",
        "scores.parquet",
        "timeline.parquet",
    } <= names
    assert (first.run / "metrics.json").read_bytes() == (second.run / "metrics.json").read_bytes()
    manifest = json.loads((first.run / "manifest.json").read_bytes())
    assert manifest["exit_code"] == 0
    assert manifest["config"] == {"attain": 0.99}
    assert pl.read_parquet(first.run / "scores.parquet").equals(evaluation().scores)
    assert json.loads((first.run / "report.json").read_bytes())["kind"] == "evaluate"


def test_a_run_goes_where_it_is_told_and_overwrites_nothing(tmp_path: Path):
    out = tmp_path / "elsewhere" / "run"
    assert recorded(tmp_path, evaluation(), out).run == out
    assert (out / "report.html").is_file()
    with pytest.raises(UserError, match="never overwrites") as error:
        recorded(tmp_path, evaluation(), out)
    assert error.value.code == Exit.USAGE
    (tmp_path / "empty").mkdir()
    assert (recorded(tmp_path, evaluation(), tmp_path / "empty").run / "report.html").is_file()


def test_a_run_that_the_input_ends_leaves_nothing(tmp_path: Path):
    workspace = Workspace(tmp_path)
    with pytest.raises(UserError), recording(workspace, "evaluate", "x", [], {}, None):
        raise UserError("no such policy", Exit.USAGE)
    assert not any((tmp_path / "runs").iterdir())


def test_a_failed_gate_ends_a_run_unless_gates_only_warn():
    assert ending(Exit.GATE, "fail") == Exit.GATE
    assert ending(Exit.GATE, "warn") == Exit.OK
    assert ending(Exit.PARTIAL, "warn") == Exit.PARTIAL


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_request_rows_say_whose_they_are_only_where_there_are_several(tmp_path: Path, suffix: str):
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix]
    path = tmp_path / f"requests{suffix}"
    write_requests({"preserve": REQUESTS}, path)
    contract = "request_id status pool replica arrival_s network_s hold_s queue_s ttft_s tpot_s e2e_s preemptions"
    assert read(path).columns == contract.split()
    assert read(path)["ttft_s"].to_list() == [0.5, None]
    write_requests({"preserve": REQUESTS, "hpa": REQUESTS}, path)
    assert read(path).columns == ["policy", *contract.split()]
    assert read(path)["policy"].to_list() == ["preserve"] * 2 + ["hpa"] * 2


def test_request_rows_that_cannot_be_written_are_refused_at_once(tmp_path: Path):
    check_requests_out(None)
    check_requests_out(tmp_path / "r.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "trace.csv").write_text("arrival_s\n")
    for name in ("r.xlsx", "none/r.csv", "folder.csv", "trace.csv"):
        with pytest.raises(UserError) as error:
            check_requests_out(tmp_path / name, str(tmp_path / "trace.csv"))
        assert error.value.code == Exit.USAGE


def test_an_analysis_run(tmp_path: Path):
    trace = trace_of(tmp_path, 100)
    with recording(Workspace(tmp_path / "workspace"), "analyze", "t", ["analyze"], {}, None) as run:
        written = write_analysis(analyze(trace), run)
    assert (written.run / "load.parquet").is_file()
    assert written.facts() == {"run": str(written.run), "report": str(written.html)}


def test_every_policy_table_column_is_one_of_the_scores():
    known = {*scores().columns, "kind", "vs_baseline", "attains", "replicas"}
    assert {c.name for c in (*policies.COLUMNS, *policies.REQUESTS, *policies.FLEET)} <= known


# ---- the published form of metrics.json


# what `--depth full` adds, and an evaluation long enough for intervals
AT_TIMES = ["slo_attainment_low", "slo_attainment_high", "headroom_matched", "gpu_hours_matched"]


def test_the_schema_knows_every_score_and_every_score_is_in_the_metrics():
    fields = list(Scores.model_fields)
    assert [name for name in fields if name not in AT_TIMES] == scores().columns
    assert [name for name in fields if name in AT_TIMES] == AT_TIMES
    published = schema.schema("evaluate")
    assert published["$defs"]["Scores"]["properties"].keys() == set(fields)


def test_metrics_of_an_evaluation_follow_the_schema():
    result = evaluation(gates=GATES)
    found = schema.EvaluationMetrics.model_validate_json(dumps(rundir.plain(result.metrics())))
    assert not found.model_extra
    assert [r.policy for r in found.results] == list(ROLES)
    with pytest.raises(ValueError, match="slo_attainment"):
        schema.EvaluationMetrics.model_validate(result.metrics() | {"results": [{"policy": "preserve"}]})


def test_metrics_of_an_analysis_follow_the_schema(tmp_path: Path):
    found = schema.AnalysisMetrics.model_validate_json(dumps(analyze(trace_of(tmp_path, 100)).metrics()))
    assert not found.model_extra
    assert found.trace.rows_read == 100
