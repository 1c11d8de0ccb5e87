"""What `evaluate` hands the replay beyond lengths and times: queue orders, sessions, scaled copies of them."""

import json
import math

import numpy as np
import polars as pl
import pytest
from evaluation_data import texts

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies import evaluate
from lmaas.policies.handover import ranks
from lmaas.policies.load import COPY, scale_load
from lmaas.policies.sessions import chains
from lmaas.replay.fleet import Fleet
from lmaas.reports.write import write_requests

SLOW = {  # one request at a time, a second each however long
    "name": "test/slow", "kv_tokens": 4000, "max_batch_tokens": 4096, "max_seqs": 1, "latency": {"base": 1.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def slow(home):
    path = home / "slow.json"
    path.write_text(json.dumps(SLOW))
    return str(path)


def stored(home, rows, name):
    path = home / f"{name}.parquet"
    rows.write_parquet(path)
    return open_trace(str(path), Workspace.open(home / "ws"), say=lambda text: None)


def table(**columns):
    """Rows of prompts of 100 tokens with one-token answers, all at 0 s unless said."""
    n = max(len(column) for column in columns.values())
    filled = {"arrival_s": [0.0] * n, "input_tokens": [100] * n, "output_tokens": [1] * n}
    return pl.DataFrame({**filled, **columns}, strict=False)


def played(trace, profile, fleet="", **asked):
    """The evaluation of one replica a pool from the first row on, and its rows."""
    path = trace.path.parent / "fleet.yaml"
    path.write_text(fleet)
    asked = {"baselines": ["none"], "train_fraction": 0.0, "profile": profile, "fleet": path, **asked}
    found = evaluate(trace, ["static(replicas=1)"], **asked)
    return found, next(iter(found.requests.values()))


# --- queue order


def test_priorities_order_the_queue_and_those_without_go_last(home, slow):
    trace = stored(home, table(priority=[5.0, None, 2.0, -1.0, 2.0]), "priority")
    found, rows = played(trace, slow, "order: priority")
    # iterations start when all arrivals of an instant are there, so the order decides who is first, too
    assert rows.sort("ttft_s")["request_id"].to_list() == ["3", "2", "4", "0", "1"]
    assert any("1 of 5 requests have none and go last" in note for note in found.notes)
    assert found.settings["fleet"]["order"] == "priority"


def test_deadlines_order_the_queue(home, slow):
    """deadline_s after the arrival; else the tier's limit on completion (batch: a day), else on the first token."""
    given = table(
        arrival_s=[0.0, 0.0, 0.25, 0.25, 0.5, 0.5],
        deadline_s=[None, 50.0, 5.0, None, 3.0, None],
        tier=["batch", "batch", "interactive-fast", "interactive-fast", "batch", None],
    )
    _, rows = played(stored(home, given, "deadline"), slow, "order: deadline")
    # due: 86400, 50, 5.25, 1.25, 3.5, 1.5; of the first two the nearer starts at 0 s
    order = rows.sort(pl.col("arrival_s") + pl.col("ttft_s"))["request_id"].to_list()
    assert order == ["1", "3", "5", "4", "2", "0"]


def test_ranks_are_finite_or_last():
    rows = pl.DataFrame(
        {
            "arrival_s": [1.0, 2.0, 3.0, 4.0],
            "priority": [math.nan, None, -3.0, 1e300],
            "deadline_s": [math.nan, 0.0, None, None],
            "limit_e2e_s": [math.inf, 9.0, math.inf, 7.0],
            "limit_ttft_s": [math.inf, 1.0, 2.0, 1.0],
        }
    )
    assert ranks(rows, Fleet(())) is None
    assert ranks(rows, Fleet((), order="priority")).tolist() == [math.inf, math.inf, -3.0, 1e300]
    assert ranks(rows, Fleet((), order="deadline")).tolist() == [math.inf, 2.0, 5.0, 11.0]
    bare = rows.drop("priority", "deadline_s")
    assert ranks(bare, Fleet((), order="priority")) is None
    assert ranks(bare, Fleet((), order="deadline")).tolist() == [math.inf, 11.0, 5.0, 11.0]


def test_ranks_by_tier_and_by_when_it_becomes_urgent():
    rows = pl.DataFrame(
        {
            "arrival_s": [100.0, 100.0, 100.0, 100.0],
            "scored_tier": ["interactive-fast", "interactive-normal", "batch", "batch"],
            "deadline_s": [None, None, 1000.0, None],
            "limit_e2e_s": [math.inf, math.inf, math.inf, 500.0],
            "limit_ttft_s": [1.0, 10.0, math.inf, math.inf],
        }
    )
    assert ranks(rows, Fleet((), order="tier")).tolist() == [0, 1, 2, 2]
    assert ranks(rows, Fleet((), order="promotion")).tolist() == [100.0, 108.0, 900.0, 500.0]


@pytest.mark.parametrize(
    ("order", "says"), [("priority", "in order of receipt"), ("deadline", "its tier's limit on completion")]
)
def test_an_order_the_trace_knows_nothing_of_is_noted(home, slow, order, says):
    found, _ = played(stored(home, table(arrival_s=[0.0, 1.0]), "unordered"), slow, f"order: {order}")
    assert any(f"order is {order}" in note and says in note for note in found.notes)


# --- closed sessions

TALK = table(
    arrival_s=[0.0, 0.5, 3.0, 4.0, 9.0],
    session_id=["a", "b", "a", None, "b"],
    turn=[0, 0, 1, None, 1],
    think_s=[None, None, 2.0, None, 0.25],
)


def test_a_turn_waits_for_the_one_before_it(home, slow):
    found, rows = played(stored(home, TALK, "talk"), slow, "sessions: closed")
    rows = rows.sort("request_id")
    # a: 0 to 1 s, then at 3 s; b waits for it, 1 to 2 s, and sends its second turn 0.25 s later
    assert rows["arrival_s"].to_list() == [0.0, 0.5, 3.0, 4.0, 2.25]
    assert (rows["arrival_s"] + rows["e2e_s"]).to_list() == [1.0, 2.0, 4.25, 5.25, 3.25]
    assert rows["status"].to_list() == ["ok"] * 5
    assert "closed sessions: 2 of 5 replayed requests are sent when the turn before them is complete" in found.notes
    opened, rows = played(stored(home, TALK, "talk"), slow, "sessions: open")
    assert rows["arrival_s"].to_list() == TALK["arrival_s"].to_list()
    assert not any("closed" in note for note in opened.notes)


def test_turns_behind_one_that_fails_are_not_sent_and_miss(home, slow, tmp_path):
    given = TALK.with_columns(input_tokens=pl.Series([9000, 100, 100, 100, 100]))
    found, rows = played(stored(home, given, "fails"), slow, "sessions: closed", slo=["e2e<1h"])
    assert dict(rows.select("request_id", "status").iter_rows()) == {
        "0": "rejected", "1": "ok", "2": "not_sent", "3": "ok", "4": "ok",
    }  # fmt: skip
    (score,) = found.scores.to_dicts()
    assert (score["arrived"], score["completed"], score["rejected"], score["not_sent"]) == (4, 3, 1, 1)
    assert score["slo_attainment"] == pytest.approx(3 / 5)
    assert any("1 rejected and 1 not sent of 5 requests, their SLO missed" in note for note in found.notes)
    assert found.metrics()["results"][0]["not_sent"] == 1
    assert f"Under {found.scores['policy'].item()} 1 turns of sessions were never sent" in texts(found)
    assert "Not sent" in texts(found)
    write_requests(found.requests, tmp_path / "out.csv")
    assert pl.read_csv(tmp_path / "out.csv")["status"].to_list() == rows["status"].to_list()
    assert found.timeline["arrived"].sum() == 4


def test_turns_sent_outside_the_windows_are_counted(home, slow):
    late = TALK.with_columns(think_s=pl.Series([None, None, 2.0, None, 50.0]))
    found, rows = played(stored(home, late, "late"), slow, "sessions: closed")
    assert rows["arrival_s"].max() == 52.0
    assert found.scores["outside_windows"].item() == 1
    assert found.scores["arrived"].item() == 5
    assert found.timeline["arrived"].sum() == 4
    assert any("1 turns of sessions were sent before or after the evaluated part" in note for note in found.notes)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (["turn"], "has no turn"),
        (["think_s"], "has no think_s"),
        (["session_id", "turn", "think_s"], "has no session_id, turn, think_s"),
    ],
)
def test_closed_sessions_need_their_columns(home, slow, missing, says):
    trace = stored(home, TALK.drop(missing), f"lacks-{len(missing)}-{missing[0]}")
    with pytest.raises(UserError) as error:
        played(trace, slow, "sessions: closed")
    assert error.value.code == Exit.CONFIG
    assert "fleet: sessions: " in str(error.value) and says in str(error.value)


def linked(rows):
    """(follow, think_s, notes) of (session, turn, think_s) rows."""
    frame = pl.DataFrame(
        rows, schema={"session": pl.Int64, "turn": pl.UInt16, "think_s": pl.Float64}, orient="row"
    )  # fmt: skip
    found = chains(frame)
    return found.follow.tolist(), found.think_s.tolist(), " | ".join(found.notes)


def test_odd_sessions_lose_no_row_silently():
    # turns out of order of arrival: the order of turns counts
    assert linked([(0, 2, 1.0), (0, 1, 9.0)])[:2] == ([-1, 0], [1.0, 0.0])
    # repeated turn: the first to arrive counts, the other is sent at its own time
    follow, _, said = linked([(0, 0, None), (0, 1, 1.0), (0, 1, 2.0), (0, 2, 3.0)])
    assert follow == [1, 3, -1, -1] and "1 have a turn that is there already" in said
    # no turn, no session
    follow, _, said = linked([(0, 0, None), (0, None, 1.0), (-1, 1, 1.0), (0, 1, 0.0)])
    assert follow == [3, -1, -1, -1]
    assert "1 have no turn" in said and "1 requests without session_id" in said
    # no pause, a negative one, none that is a number: the turn begins a chain of its own
    for pause in (None, -1.0, math.nan, math.inf):
        follow, pauses, said = linked([(0, 0, None), (0, 1, pause), (0, 2, 4.0)])
        assert follow == [-1, 2, -1] and pauses == [0.0, 0.0, 4.0] and "1 have no think_s" in said
    # a turn that is missing is followed across
    follow, _, said = linked([(0, 0, None), (0, 7, 1.0)])
    assert follow == [1, -1] and "1 turns follow one that is not the one before" in said
    assert linked([])[0] == []


def test_every_row_follows_at_most_one_and_none_itself():
    """Whatever turns say, chains are chains: no cycle, no row with two before it."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(1, 40))
        rows = [
            (int(s), None if t == 5 else int(t), None if p < 0.1 else float(p - 0.2))
            for s, t, p in zip(rng.integers(-1, 3, n), rng.integers(0, 6, n), rng.random(n), strict=True)
        ]
        follow = linked(rows)[0]
        after = [f for f in follow if f >= 0]
        assert len(after) == len(set(after))
        for k in range(n):
            seen, at = set(), k
            while at >= 0:
                assert at not in seen
                seen.add(at)
                at = follow[at]


def test_every_row_ends_once_in_a_closed_loop(home, slow):
    """A hostile trace, played: as many rows come out as went in, each with one end."""
    rng = np.random.default_rng(1)
    n = 400
    given = table(
        arrival_s=np.sort(rng.uniform(0, 300, n)),
        session_id=rng.choice(["a", "b", "c", "d", None], n),
        turn=rng.integers(0, 30, n),
        think_s=pl.Series(rng.uniform(0, 5, n)).set(pl.Series(rng.random(n) < 0.1), None),
        input_tokens=np.where(rng.random(n) < 0.02, 9000, 100),
    )
    found, rows = played(stored(home, given, "hostile"), slow, "sessions: closed")
    (score,) = found.scores.to_dicts()
    assert rows.height == n == score["arrived"] + score["not_sent"]
    assert score["arrived"] == score["completed"] + score["rejected"] + score["incomplete"]
    assert score["rejected"] > 0 and score["not_sent"] > 0


def test_session_affinity_keeps_sessions_together(home, slow):
    rng = np.random.default_rng(2)
    n = 300
    given = table(arrival_s=np.sort(rng.uniform(0, 3000, n)), session_id=rng.choice([f"s{k}" for k in range(40)], n))
    trace = stored(home, given, "affinity")
    asked = {"baselines": ["none"], "train_fraction": 0.0, "profile": slow}
    kept = next(iter(evaluate(trace, ["static(replicas=4)"], router="session-affinity", **asked).requests.values()))
    by_session = kept.with_columns(given["session_id"]).group_by("session_id").agg(pl.col("replica").n_unique())
    assert (by_session["replica"] == 1).all()
    assert kept["replica"].n_unique() == 4


def test_a_sessions_replica_does_not_depend_on_what_comes_later(home, slow):
    rng = np.random.default_rng(3)
    n = 200
    given = table(arrival_s=np.sort(rng.uniform(0, 2000, n)), session_id=rng.choice([f"s{k}" for k in range(40)], n))
    early = given.head(120)
    asked = {"baselines": ["none"], "train_fraction": 0.0, "profile": slow, "router": "session-affinity"}
    whole, part = (
        next(iter(evaluate(stored(home, rows, name), ["static(replicas=3)"], **asked).requests.values()))
        for rows, name in ((given, "whole"), (early, "part"))
    )
    assert whole["replica"].head(120).to_list() == part["replica"].to_list()


# --- scaled load


def scaled(factor, n=4000, cut=500.0):
    rng = np.random.default_rng(4)
    rows = pl.DataFrame(
        {
            "request_id": [str(k) for k in range(n)],
            "arrival_s": np.sort(rng.uniform(0, 1000, n)),
            "session": np.where(rng.random(n) < 0.1, -1, rng.integers(0, 300, n)),
        }
    )
    return rows, scale_load(rows, factor, cut, seed=7)


def test_thinning_keeps_or_leaves_whole_sessions():
    rows, fewer = scaled(0.4)
    whole = rows.filter(pl.col("session") >= 0).group_by("session").len()
    kept = fewer.filter(pl.col("session") >= 0).group_by("session").len()
    assert kept.join(whole, on=["session", "len"]).height == kept.height  # all of a session or nothing, across the cut
    assert kept.height == pytest.approx(0.4 * whole.height, rel=0.2)
    alone = [frame.filter(pl.col("session") < 0).height for frame in (fewer, rows)]
    assert alone[0] == pytest.approx(0.4 * alone[1], rel=0.2)


def test_copies_of_sessions_are_sessions_of_others_and_move_as_one():
    rows, more = scaled(2.5)
    assert more.height == pytest.approx(2.5 * rows.height, rel=0.05)
    assert more["request_id"].is_unique().all()
    for copy in (1, 2):
        copied = more.filter((pl.col("copy") == copy) & (pl.col("session") >= 0))
        own = copied.with_columns(
            session=pl.col("session") - copy * COPY, request_id=pl.col("request_id").str.split("+").list.first()
        )
        joined = own.join(rows, on=["request_id", "session"], suffix="_then")
        assert joined.height == own.height > 0
        calm = joined.filter(pl.col("arrival_s_then").is_between(40, 460))  # nothing is reflected at the ends
        shift = calm.with_columns(by=pl.col("arrival_s") - pl.col("arrival_s_then")).group_by("session")
        assert shift.agg((pl.col("by").max() - pl.col("by").min()).alias("d"))["d"].max() < 1e-9
    assert more["session"].max() < 2**53
