"""`lmaas train` and `lmaas predict`: what they print, write and refuse, and that nothing in-sample is scored."""

import json

import numpy as np
import polars as pl
import pytest
from requests_data import habits

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.lengths.modelfile import load
from lmaas.analysis.lengths.requests import requests_of
from lmaas.analysis.lengths.training import train
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main
from lmaas.reports import schema

EPOCH = "2026-11-02T00:00:00Z"
MEDIAN = ("train", "dated.parquet", "--kind", "median", "--out", "model.json")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def rows():
    return habits(np.random.default_rng(7), rate=0.4).drop("done_s")


@pytest.fixture
def source(rows, tmp_path):
    rows.write_parquet(tmp_path / "trace.parquet")
    return tmp_path / "trace.parquet"


def at_dates(rows, start):
    """The rows with dates for times, their second 0 at `start`."""
    at = pl.lit(start).str.to_datetime(time_unit="us").dt.replace_time_zone("UTC")
    return rows.with_columns(arrival_s=at + pl.duration(microseconds=(pl.col("arrival_s") * 1e6).cast(pl.Int64)))


def ran(capsys, *args, code=0):
    """The JSON object that a command prints."""
    assert main([*map(str, args), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def only(found, predictor="trees"):
    return next(r for r in found["scores"] if r["predictor"] == predictor and r["service"] is None)


def test_train_then_predict_score_the_same_requests(source, tmp_path, capsys):
    trained = ran(capsys, "train", source, "--out", "model.json")
    assert {r["predictor"] for r in trained["scores"]} == {"trees", "input-bin", "median"}
    assert (tmp_path / "model.json").read_bytes() == (tmp_path / trained["run"] / "model.json").read_bytes()
    told = ran(capsys, "predict", source, "--model", "model.json", "--out", "told.parquet")
    assert only(told) == only(trained)
    rows = pl.read_parquet("told.parquet")
    later = rows.filter(~pl.col("trained_on"))
    assert later.height == only(told)["n"] < rows.height
    error = (later["predicted_tokens"] - later["output_tokens"]).abs().mean()
    assert error == pytest.approx(only(told)["mae_tokens"])
    assert any("left out of the scores" in note for note in told["notes"])
    assert rows.equals(pl.read_parquet(tmp_path / told["run"] / "predictions.parquet"))
    for found in (trained, told):
        metrics = json.loads((tmp_path / found["run"] / "metrics.json").read_text())
        assert not schema.LengthMetrics.model_validate(metrics).model_extra
        page = (tmp_path / found["report"]).read_text()
        assert all(f'id="{anchor}"' in page for anchor in ("errors", "calibration", "buckets", "importance", "method"))


def test_the_terminal_says_the_finding_first(source, capsys):
    assert main(["train", str(source), "--kind", "buckets", "--train-fraction", "0.7"]) == 0
    said = capsys.readouterr().out
    assert said.index("buckets is off by") < said.index("MAE, tokens") < said.index("PreServe reports MAE 78.25")
    assert "input-bin" in said
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("kind", ["trees", "buckets", "input-bin", "median"])
def test_reports_of_every_kind(kind, source, tmp_path, capsys):
    found = ran(capsys, "train", source, "--kind", kind)
    assert only(found, kind)["n"] > 1000
    report = json.loads((tmp_path / found["run"] / "report.json").read_text())
    anchors = [section["anchor"] for section in report["sections"]]
    assert ("importance" in anchors) == (kind in ("trees", "buckets"))
    assert sum(r["gain"] for r in found["importance"]) == pytest.approx(1.0 if found["importance"] else 0.0)
    assert len([r for r in found["rest"] if r["service"] is None]) > 5


def test_all_of_a_trace_trains_and_scores_nothing(source, capsys):
    found = ran(capsys, "train", source, "--train-fraction", "1")
    assert found["scores"] == []
    assert found["trained"]["rows"] == pl.read_parquet(source).height
    assert any("all of the trace was trained on" in note for note in found["notes"])


def test_what_it_was_all_trained_on_is_said_to_have_no_held_out_output(source, capsys):
    assert main(["train", str(source), "--train-fraction", "1", "--out", "model.json", "-q"]) == 0
    capsys.readouterr()
    assert main(["predict", str(source), "--model", "model.json"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "nothing is scored, for no request outside its training has a known output" in said


def test_until_leaves_out_what_is_later(source, capsys):
    whole, part = (ran(capsys, "train", source, *more) for more in ((), ("--until", "1h")))
    assert part["trained"]["rows"] < 0.6 * whole["trained"]["rows"]
    assert part["trained"]["cut_s"] < 1810


def test_requests_without_outputs_are_predicted(source, rows, tmp_path, capsys):
    assert main(["train", str(source), "--out", "model.json", "-q"]) == 0
    blank = rows.with_columns(output_tokens=pl.lit(None, pl.UInt32), status=pl.lit("incomplete"))
    blank.write_parquet(tmp_path / "blank.parquet")
    capsys.readouterr()
    told = ran(capsys, "predict", "blank.parquet", "--model", "model.json", "--out", "told.csv")
    assert told["scores"] == []
    found = pl.read_csv("told.csv")
    assert found.height == rows.height
    assert (found["predicted_tokens"] >= 1).all()
    assert found["q_0.9"].null_count() == 0


def test_another_trace_is_scored_whole_where_times_do_not_meet(source, rows, tmp_path, capsys):
    assert main(["train", str(source), "--out", "model.json", "-q"]) == 0
    other = habits(np.random.default_rng(8), rate=0.4).drop("done_s")
    other.write_parquet(tmp_path / "other.parquet")
    capsys.readouterr()
    told = ran(capsys, "predict", "other.parquet", "--model", "model.json")
    assert only(told)["n"] == other.height
    assert any("cannot be compared" in note for note in told["notes"])
    assert main(["predict", "other.parquet", "--model", "model.json"]) == 0
    assert "requests that it shows no sign of being trained on" in " ".join(capsys.readouterr().out.split())


def test_a_dated_copy_of_the_training_trace_is_not_scored_in_sample(rows, tmp_path, capsys):
    """Other content, so another id; but the dates tell that it is of the same time."""
    dated = at_dates(rows, "2026-11-02")
    dated.write_parquet(tmp_path / "dated.parquet")
    dated.with_columns(priority=pl.lit(1.0)).write_parquet(tmp_path / "copy.parquet")
    trained = ran(capsys, "train", "dated.parquet", "--out", "model.json")
    assert trained["trained"]["epoch"] is not None
    told = ran(capsys, "predict", "copy.parquet", "--model", "model.json")
    assert told["trace"]["trace_id"] != trained["trace"]["trace_id"]
    assert only(told)["n"] == only(trained)["n"]
    assert only(told)["mae_tokens"] == pytest.approx(only(trained)["mae_tokens"])


@pytest.mark.parametrize(
    ("copy", "start"),
    [("re-dated", "2026-11-16"), ("30 h later", "2026-11-03T06:00:00"), ("other time zone", "2026-11-02T01:00:00")],
)
def test_a_copy_with_other_dates_is_known_again_and_not_scored(copy, start, rows, tmp_path, capsys):
    """Its times can be compared with the training's, and are beside the point."""
    at_dates(rows, "2026-11-02").write_parquet(tmp_path / "dated.parquet")
    own = ran(capsys, *MEDIAN)["settings"]["cut_s"]
    at_dates(rows.filter(pl.col("arrival_s") < own), start).write_parquet(tmp_path / "copy.parquet")
    told = ran(capsys, "predict", "copy.parquet", "--model", "model.json")
    assert told["scores"] == [] and any("would be in-sample" in note for note in told["notes"])


def test_a_new_trace_with_dates_is_scored_whole(rows, tmp_path, capsys):
    at_dates(rows, "2026-11-02").write_parquet(tmp_path / "dated.parquet")
    assert main([*MEDIAN, "-q"]) == 0
    later = habits(np.random.default_rng(8), rate=0.4).drop("done_s")
    at_dates(later, "2026-11-16").write_parquet(tmp_path / "later.parquet")
    capsys.readouterr()
    told = ran(capsys, "predict", "later.parquet", "--model", "model.json")
    assert only(told, "median")["n"] == later.height


@pytest.mark.parametrize("copy", ["shifted", "renamed", "one service", "one tenant", "half", "with later ones"])
def test_a_copy_of_the_training_is_known_again_and_not_scored(copy, source, rows, tmp_path, capsys):
    trained = ran(capsys, "train", source, "--out", "model.json")
    own = rows.filter(pl.col("arrival_s") < trained["settings"]["cut_s"])
    changed = {
        "shifted": own.with_columns(pl.col("arrival_s") + 1234.5),
        "renamed": own.with_columns(service="tenant", tenant="service"),
        "one service": own.filter(service="chat"),
        "one tenant": own.filter(service="chat", tenant="t1"),
        "half": own[500:1000],
        "with later ones": rows.with_columns(pl.col("arrival_s") + 7),
    }[copy]
    changed.write_parquet(tmp_path / "copy.parquet")
    told = ran(capsys, "predict", "copy.parquet", "--model", "model.json")
    assert told["scores"] == [] and any("would be in-sample" in note for note in told["notes"])
    assert main(["predict", "copy.parquet", "--model", "model.json"]) == 0
    assert "nothing is scored, for requests like these were among those" in " ".join(capsys.readouterr().out.split())


def test_what_comes_after_the_cut_changes_no_model(rows, tmp_path, capsys):
    """--train-fraction cuts by time, so the last arrival stays; everything else after the cut is changed."""
    half = rows["arrival_s"][0] + (rows["arrival_s"][-1] - rows["arrival_s"][0]) / 2
    later = pl.col("arrival_s") > half
    other = rows.with_columns(
        output_tokens=pl.when(later).then(7).otherwise("output_tokens").cast(pl.UInt32),
        tenant=pl.when(later).then(pl.lit("new")).otherwise("tenant"),
    )
    models = []
    for name, table in (("a", rows), ("b", other)):
        table.write_parquet(tmp_path / f"{name}.parquet")
        assert main(["train", f"{name}.parquet", "--out", f"{name}.json", "-q"]) == 0
        content = json.loads((tmp_path / f"{name}.json").read_text())
        models.append({k: v for k, v in content.items() if k not in ("digest", "trained")})
    assert models[0] == models[1]


def test_outputs_still_running_at_the_cut_are_not_learned(source):
    trace = open_trace(str(source), Workspace.open(), say=lambda line: None)
    requests, note = requests_of(trace)
    assert "no observed duration" in note
    found = train(trace, kind="median")
    known = requests.filter(pl.col("done_s") < found.facts.cut_s)
    assert found.facts.rows == known.height < requests.filter(pl.col("arrival_s") < found.facts.cut_s).height


def test_what_is_asked_wrongly_is_refused(source, tmp_path, capsys):
    (tmp_path / "junk.json").write_text("{}")
    source.with_name("empty.csv").write_text("arrival_s,input_tokens,output_tokens,status\n0,5,,failed\n1,5,,failed\n")
    for args, code, said in [
        (["train", source, "--kind", "tree"], 2, "did you mean 'trees'?"),
        (["train", source, "--train-fraction", "0"], 2, "must be above 0"),
        (["train", source, "--out", "no/model.json"], 2, "there is no folder no"),
        (["train", source, "--out", tmp_path], 2, "this is a folder"),
        (["train", "empty.csv"], 4, "nothing to learn from"),
        (["predict", source, "--model", "junk.json"], 5, "is no model of output lengths"),
        (["predict", source, "--model", "none.json"], 5, "is no file"),
        (["predict", source, "--model", "junk.json", "--out", "a.xlsx"], 2, "cannot write '.xlsx'"),
        (["predict", source, "--model", "junk.json", "--out", source], 2, "this is the trace itself"),
        (["predict", source], 2, "--model"),
    ]:
        assert main([*map(str, args)]) == code, args
        assert said in capsys.readouterr().err
    runs = tmp_path / "home" / "runs"
    assert not runs.exists() or not list(runs.iterdir())


def test_names_from_traces_do_no_harm(rows, tmp_path, capsys):
    hostile = rows.with_columns(
        service=pl.lit("<script>alert(1)</script>"), tenant=pl.concat_str(pl.lit("\x1b[2J</script>"), "tenant")
    )
    hostile.write_parquet(tmp_path / "hostile.parquet")
    found = ran(capsys, "train", "hostile.parquet")
    page = (tmp_path / found["report"]).read_text()
    assert "<script>alert(1)" not in page
    assert len(page) < 5_000_000
    assert main(["train", "hostile.parquet"]) == 0
    assert "\x1b[2J" not in capsys.readouterr().out
    predictor, _ = load(tmp_path / found["run"] / "model.json")
    assert predictor.predict(hostile).min() >= 1


def test_services_without_a_request_to_learn_from_are_named(rows, tmp_path, capsys):
    late = (pl.col("arrival_s") > 5000) & (pl.int_range(pl.len()) % 3 == 0)
    strange = rows.with_columns(service=pl.when(late).then(pl.lit("fresh")).otherwise("service"))
    strange.write_parquet(tmp_path / "strange.parquet")
    said = "had no request done before the cut (fresh): what is said of them was learned of the others"
    trained = ran(capsys, "train", "strange.parquet", "--kind", "median", "--out", "model.json")
    told = ran(capsys, "predict", "strange.parquet", "--model", "model.json")
    for found in (trained, told):
        assert any(said in note for note in found["notes"]), found["notes"]
    rows.write_parquet(tmp_path / "known.parquet")
    assert not any(
        "no request done" in n for n in ran(capsys, "predict", "known.parquet", "--model", "model.json")["notes"]
    )


def test_what_outlives_so_many_tokens_is_predicted_again_from_the_model_file_alone(source, capsys):
    ran(capsys, "train", source, "--kind", "input-bin", "--out", "model.json")
    told = ran(capsys, "predict", source, "--model", "model.json", "--generated", "100", "--out", "told.parquet")
    rows = pl.read_parquet("told.parquet")
    assert rows["generated_tokens"].unique().to_list() == [100]
    assert rows.select((pl.col("output_tokens") <= 100) == pl.col("expected_tokens").is_null()).to_series().all()
    assert (rows["expected_tokens"].drop_nulls() > 100).all()
    later = rows.filter(~pl.col("trained_on"), pl.col("output_tokens") > 100)
    error = (later["expected_tokens"] - later["output_tokens"]).abs().mean()
    first = (later["predicted_tokens"].clip(101) - later["output_tokens"]).abs().mean()
    assert (
        f"re-predicted after 100 tokens: off by {error:,.0f} tokens on average over the {later.height:,} scored "
        f"requests that went on, {first:,.0f} by what was predicted at arrival"
    ) in told["notes"]
    plain = ran(capsys, "predict", source, "--model", "model.json", "--out", "plain.parquet")
    assert not any("re-predicted" in note for note in plain["notes"])
    assert pl.read_parquet("plain.parquet").equals(rows.drop("generated_tokens", "expected_tokens"))
