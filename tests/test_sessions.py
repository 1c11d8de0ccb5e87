"""Sessions: planted conversations are found, samples keep within their error, odd traces say nothing wrong."""

import json
import math

import numpy as np
import polars as pl
import pytest
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.analysis.workload.session_columns import COLUMNS, findings
from lmaas.analysis.workload.sessions import TURNS, sessions
from lmaas.reports.analyze.sessions import section


@pytest.fixture
def store(tmp_path):
    return storer(tmp_path)


def planted(n=4000, seed=1, **more):
    """Geometric turns (mean 4), exponential pauses (mean 60 s) after answers of 5 s, prompts that grow by 150."""
    rng = np.random.default_rng(seed)
    turns = rng.geometric(0.25, n)
    session = np.repeat(np.arange(n), turns)
    k = np.arange(len(session)) - np.repeat(np.cumsum(turns) - turns, turns)
    pause = np.where(k > 0, rng.exponential(60, len(session)) + 5, 0.0)
    total = np.cumsum(pause)
    at = np.repeat(rng.uniform(0, 100_000, n), turns) + total - np.repeat(total[np.cumsum(turns) - turns], turns)
    return table(
        arrival_s=at,
        session_id=[f"s{s}" for s in session],
        input_tokens=1000 + 150 * k,  # 100 of the user's, 50 answered
        output_tokens=[50] * len(k),
        e2e_s=[5.0] * len(k),
        source_row=range(len(k)),
        **{name: values[session] for name, values in more.items()},
    )


def stat(tables, metric):
    return tables["session_stats"].filter(by="all", metric=metric).row(0, named=True)


def test_planted_turns_pauses_and_growth_are_found():
    rows = planted()
    tables = sessions(rows.lazy(), span_s=rows["arrival_s"].max() - rows["arrival_s"].min())
    whole = tables["sessions"].row(0, named=True)
    assert (whole["sessions"], whole["requests"], whole["spawned"]) == (4000, len(rows), 0)
    assert whole["single_turn_share"] == pytest.approx(0.25, abs=0.02)
    assert (whole["overlap_share"], whole["cut_share"]) == (0, 0)
    turns, think, gap = (stat(tables, m) for m in ("turns", "think_s", "gap_s"))
    assert turns["mean"] == len(rows) / 4000 and turns["exact"] and turns["mean_se"] is None
    assert think["n"] == gap["n"] == len(rows) - 4000
    assert think["mean"] == pytest.approx(60, rel=0.03)
    assert think["p50"] == pytest.approx(60 * math.log(2), rel=0.05)
    assert gap["mean"] == pytest.approx(think["mean"] + 5)
    assert stat(tables, "growth_tokens")["p50"] == 150
    # the second turn's prompt of 1,150 tokens carries 1,000 + 50
    assert stat(tables, "carried_share")["p99"] < 1
    second = tables["session_turns"].row(1, named=True)
    assert (second["from_turn"], second["to_turn"], second["input_p50"]) == (2, 2, 1150)
    assert second["reached_share"] == pytest.approx(0.75, abs=0.02)
    # Little's law: sessions a second times how long they are open
    open_s = stat(tables, "session_s")["mean"] + 5
    assert whole["concurrent_mean"] == pytest.approx(4000 * open_s / 100_000, rel=0.02)
    assert whole["concurrent_mean"] < whole["concurrent_peak"] < 4 * whole["concurrent_mean"]


def test_a_sample_of_sessions_tells_its_error_and_keeps_it():
    rows = planted(8000)
    whole = sessions(rows.lazy(), span_s=1e5)
    drawn = sessions(rows.lazy(), span_s=1e5, max_rows=len(rows) // 3)
    a, b = whole["sessions"].row(0, named=True), drawn["sessions"].row(0, named=True)
    assert (a["looked_at"], b["looked_at"]) == (1, 0.25)
    assert b["sessions"] == pytest.approx(a["sessions"], rel=0.1)
    assert b["concurrent_peak"] is None and b["concurrent_mean"] == pytest.approx(a["concurrent_mean"], rel=0.15)
    assert abs(a["single_turn_share"] - b["single_turn_share"]) < 4 * b["single_turn_se"] < 0.1
    for metric in ("turns", "session_s", "think_s", "gap_s"):
        x, y = stat(whole, metric), stat(drawn, metric)
        assert not y["exact"]
        # quantiles of whole numbers of turns move by whole turns, whatever their error
        for s in ("mean",) if metric == "turns" else ("mean", "p90", "p99"):
            assert x[f"{s}_se"] is None
            assert abs(x[s] - y[s]) <= 4.5 * y[f"{s}_se"] + 1e-9, (metric, s)
    parts = [rows.filter(pl.col("arrival_s") < 5e4), rows.filter(pl.col("arrival_s") >= 5e4)]
    both = [sessions(p.lazy(), max_rows=len(p) // 3)["sessions"]["requests"][0] for p in parts]
    assert sum(both) == b["requests"], "parts of a trace draw the same sessions"


def test_the_pause_is_the_sources_where_it_gives_one():
    rows = table(
        arrival_s=[0.0, 10.0, 20.0, 21.0],
        session_id=["s"] * 4,
        think_s=[None, 3.0, None, None],
        e2e_s=[None, 4.0, 2.0, None],
        input_tokens=[10, 20, 15, 40],
        output_tokens=[10, 10, 10, 10],
    )
    tables = sessions(rows.lazy(), span_s=21.0)
    think = stat(tables, "think_s")
    assert (think["n"], think["mean"], think["max"]) == (2, 4.5, 6.0), "3 given, 20 - 14 observed, the last overlaps"
    whole = tables["sessions"].row(0, named=True)
    assert (whole["overlap_share"], whole["cut_share"]) == (0.5, pytest.approx(1 / 3))
    carried = stat(tables, "carried_share")
    assert (carried["n"], carried["mean"]) == (3, pytest.approx((1 + 1 + 25 / 40) / 3))


def test_turns_at_one_instant_go_by_their_number():
    rows = table(arrival_s=[0.0] * 3, session_id=["s"] * 3, turn=[3, 1, 2], input_tokens=[30, 10, 20])
    growth = stat(sessions(rows.lazy()), "growth_tokens")
    assert (growth["mean"], growth["max"]) == (10, 10)


def test_sub_agents_are_sessions_begun_by_another():
    rows = table(
        arrival_s=[0.0, 1.0, 2.0, 3.0],
        session_id=["main", "agent", "main", "orphan"],
        request_id=["a", "b", "c", "d"],
        parent_id=[None, "a", "a", "gone"],
    )
    assert sessions(rows.lazy())["sessions"]["spawned"].item() == 1


def test_sessions_that_begin_together_have_no_concurrency():
    rows = table(arrival_s=[0.0, 0.0, 0.0, 5.0, 7.0], session_id=["a", "b", "c", "a", "d"])
    whole = sessions(rows.lazy(), span_s=7.0)["sessions"].row(0, named=True)
    assert whole["concurrent_mean"] is None and whole["concurrent_peak"] is None
    apart = table(arrival_s=[0.0, 1.0, 2.0, 3.0], session_id=["a", "b", "a", "b"])
    assert sessions(apart.lazy(), span_s=3.0)["sessions"].row(0, named=True)["concurrent_peak"] == 2


def test_services_are_those_of_first_turns():
    kind = np.array(["x"] * 3000 + ["y"] * 1000)
    tables = sessions(planted(service=kind).lazy())
    assert dict(tables["sessions"].select("name", "sessions").iter_rows()) == {"all": 4000, "x": 3000, "y": 1000}
    assert set(tables["session_stats"]["name"]) == {"all", "x", "y"}


def test_percentiles_below_the_quantum_are_not_told():
    rows = planted()
    think = stat(sessions(rows.lazy(), quantum_s=30.0), "think_s")
    assert think["p50"] > 30 and stat(sessions(rows.lazy(), quantum_s=60.0), "think_s")["p50"] is None


ODD = {
    "one row": table(arrival_s=[5.0], session_id=["s"]),
    "one instant": table(arrival_s=[5.0] * 4, session_id=["s", "t", "s", "t"]),
    "one turn each": table(arrival_s=np.arange(200.0), session_id=[f"s{k}" for k in range(200)]),
    "one session": table(arrival_s=np.arange(200.0), session_id=["s"] * 200),
    "no lengths": table(
        arrival_s=[0.0, 100.0],
        session_id=["s", "s"],
        input_tokens=pl.Series([None, None], dtype=pl.UInt32),
        output_tokens=pl.Series([None, None], dtype=pl.UInt32),
    ),
    "empty answers": table(arrival_s=[0.0, 1.0], session_id=["s", "s"], input_tokens=[0, 0], output_tokens=[0, 0]),
    "some without": table(arrival_s=[0.0, 1.0, 2.0], session_id=[None, "s", ""]),
    "more turns than steps": table(arrival_s=np.arange(1500.0), session_id=["s"] * 1500),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_traces_give_tables_and_a_section(store, name):
    result = analyze(store(ODD[name]))
    for table_name in COLUMNS:
        assert result.tables[table_name].columns == list(COLUMNS[table_name])
    said = list(findings(result.tables, result.trace))
    assert said and not any("nan" in f or "None" in f for f in said)
    assert section(result).finding
    json.dumps(result.metrics(), allow_nan=False)


def test_without_sessions_nothing_is_said(store):
    result = analyze(store(table(arrival_s=[0.0, 1.0])))
    assert not set(COLUMNS) & set(result.tables) and section(result) is None
    assert sessions(table(arrival_s=[0.0, 1.0]).lazy()) == {}


def test_a_figure_has_a_point_for_every_step_that_is_reached(store):
    rows = planted()
    longest = rows["session_id"].value_counts()["count"].max()
    figure = section(analyze(store(rows))).figures[0]
    assert figure.table.rows.height == sum(t <= longest for t in TURNS) == len(figure.spec["data"][0]["y"])
    assert figure.spec["data"][0]["y"][:4] == [1000, 1150, 1300, 1450]


def test_weka(shared):
    raw = pl.read_parquet(shared / "traces" / "weka-claude-code" / "requests.parquet").filter(depth=0)  # no sub-agents
    rows = table(
        arrival_s=raw["t"],
        session_id=raw["session"],
        input_tokens=raw["in"],
        output_tokens=raw["out"],
        think_s=raw["think_time"],
        e2e_s=raw["api_time"],
    )
    tables = sessions(rows.lazy(), span_s=1.0)
    assert tables["sessions"].select("sessions", "requests").row(0) == (710, 48_658)
    assert stat(tables, "session_s")["p50"] == pytest.approx(3591, rel=0.05)
    assert stat(tables, "gap_s")["p50"] == pytest.approx(18, abs=0.5)
    assert stat(tables, "think_s")["p50"] == pytest.approx(10, abs=0.5)
