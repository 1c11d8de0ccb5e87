"""`lmaas forecast`: what it writes and prints, and what it refuses."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from evaluation_data import HOSTILE

from lmaas.analysis.forecasting.study import SERIES
from lmaas.cli.main import main
from lmaas.reports.forecast.accuracy import finding
from lmaas.reports.schema import KINDS


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """Two hours of two services in two regions, tiers on some, one with a hostile name."""
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    n = 4000
    rows = pl.DataFrame(
        {
            "arrival_s": np.sort(rng.random(n) * 7200),
            "service": rng.choice(["chat", HOSTILE], n),
            "region": rng.choice(["us", "eu"], n),
            "tier": rng.choice(["interactive-fast", "batch"], n),
            "input_tokens": rng.integers(1, 900, n),
            "output_tokens": rng.integers(1, 90, n),
        }
    )
    path = tmp_path / "two-hours.parquet"
    rows.write_parquet(path)
    return str(path)


def run(capsys, *args):
    code = main(["forecast", *args])
    return code, *capsys.readouterr()


def test_json_is_one_object_of_the_published_form_and_the_tables_hold_every_row(trace, capsys, tmp_path):
    out = tmp_path / "rows.csv"
    code, stdout, _ = run(
        capsys, trace, "--model", "mean", "--by-tier", "--window", "5m", "--horizon", "5m", "--horizon", "20m",
        "--forecasts-out", str(out), "--json",
    )  # fmt: skip
    assert code == 0
    found = json.loads(stdout)
    checked = KINDS["forecast"].model_validate(found)
    assert {(s.model, s.horizon_s) for s in checked.scores} == {
        (m, h) for m in ("mean", "last-value") for h in (300.0, 1200.0)
    }
    assert all(0 < s.wape < 1 and 0 <= s.coverage_80 <= s.coverage_95 <= 1 for s in checked.scores)
    assert {s.to_last_value for s in checked.scores if s.model == "last-value"} == {1.0}
    windows = pl.read_parquet(f"{found['run']}/windows.parquet")
    # 12 windows, 2 models, 2 horizons, 4 metrics, 2 services x 2 regions, whole and two tiers
    assert windows.height == 11 * 2 * 2 * 4 * 4 * 3 or windows.height == 12 * 2 * 2 * 4 * 4 * 3
    assert pl.read_csv(out).height == windows.height
    whole = windows.filter(pl.col("tier").is_null())
    parts = windows.filter(pl.col("tier").is_not_null())
    assert whole["actual"].sum() == pytest.approx(parts["actual"].sum())
    assert whole["forecast"].sum() == pytest.approx(parts["forecast"].sum())
    assert (windows["issued_s"] + windows["horizon_s"] - 300 - windows["start_s"]).abs().max() < 1e-5
    page = (tmp_path / found["report"]).read_text()
    assert "<script>alert" not in page
    assert all(f'"anchor":"{name}"' in page for name in ("accuracy", "intervals", "series"))


def test_types_are_rows_of_their_own(trace, capsys, tmp_path):
    code, stdout, _ = run(
        capsys, trace, "--model", "mean", "--by-type", "--by-tier", "--window", "5m", "--horizon", "5m", "--json",
    )  # fmt: skip
    assert code == 0
    found = json.loads(stdout)
    KINDS["forecast"].model_validate(found)
    windows = pl.read_parquet(f"{found['run']}/windows.parquet")
    whole = windows.filter(pl.col("tier").is_null(), pl.col("type").is_null())
    of_type = windows.filter(pl.col("type").is_not_null())
    assert of_type["tier"].null_count() == of_type.height > 0
    # all are answered, so the types are the whole
    for column in ("actual", "forecast"):
        assert of_type[column].sum() == pytest.approx(whole[column].sum())
    assert len([s for s in found["series"] if s["type"]]) == of_type.select("model", *SERIES).n_unique()
    assert any("types being clusters of lengths learned before the cut" in remark for remark in found["remarks"])
    assert whole["actual"].sum() * 3 == pytest.approx(windows["actual"].sum())


def test_the_terminal_names_the_default_its_floor_and_what_is_not_known(trace, capsys):
    code, stdout, stderr = run(capsys, trace, "--window", "5m")
    assert code == 0
    assert "auto" in stdout
    assert "last-value" in stdout
    assert "no observed duration" in stdout
    assert " of history at the cut" in stdout
    assert "Report:" in stderr


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--model", "mstll"), 2, "did you mean 'mstl'"),
        (("--horizon", "600"), 2, "no unit"),
        (("--window", "5m", "--horizon", "1m"), 2, "shorter than a window"),
        (("--horizon", "2h"), 2, "longer than the"),
        (("--train-fraction", "0"), 2, "nothing to learn from"),
        (("--window", "0s"), 2, "has no length"),
        (("--window", "1h"), 4, "a shorter --window"),
        (("--forecasts-out", "rows.txt"), 2, "cannot write '.txt'"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_would_work(trace, capsys, args, code, said):
    found, _, stderr = run(capsys, trace, *args)
    assert (found, said in stderr) == (code, True), stderr


@pytest.mark.parametrize(
    ("shortest_s", "unit"), [(0.5, "seconds"), (36.8, "seconds"), (60.0, "minutes"), (7200.0, "hours"), (2e5, "days")]
)  # fmt: skip
def test_horizons_are_drawn_in_a_unit_they_have(shortest_s, unit):
    from lmaas.reports.forecast.words import axis_unit

    assert axis_unit(shortest_s)[0] == unit


def found(error, models=("auto", "trees")):
    """A result whose models are off by so much, at ten minutes and a day, as far as its headline looks."""
    rows = [(m, h, "total_tokens", w) for m, at in error.items() for h, w in zip((600.0, 86_400.0), at, strict=True)]
    scores = pl.DataFrame(rows, schema=["model", "horizon_s", "metric", "wape"], orient="row")
    return SimpleNamespace(scores=scores, settings={"models": list(models)})


def test_the_headline_is_of_the_first_model_asked_for_and_others_are_better_in_hindsight():
    error = {"trees": (0.10, 0.30), "auto": (0.11, 0.25), "last-value": (0.12, 0.2)}
    assert finding(found(error)).replace("\N{NO-BREAK SPACE}", " ") == (
        "10 min ahead auto is off by 11 % of total tokens (the last value by 12 %; best in hindsight trees, 10 %); "
        "24 h ahead auto is off by 25 % of total tokens (the last value by 20 %)."
    )
    alone = {"last-value": (0.12, 0.2)}
    assert "best in hindsight" not in finding(found(alone, ["last-value"]))
