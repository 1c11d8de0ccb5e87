"""Causes by replay: planted troubles are found for what they are, and what is no cause is not called one."""

import polars as pl
import pytest
from planted import HALF_S, WINDOW_S, benched, found, trace

from lmaas.policies.full.causes import CHANGES, DONE, FOUND, cause, hours
from lmaas.policies.worst import CAUSES, WORST

PLANTED = {  # cause -> (trace, profile, policy, router); whose other troubles are small
    "cold start": (trace([4] * 4 + [16] * 16), {"startup_s": 240.0}, "hpa", None),
    "demand spike": (trace([6] * 8 + [22] * 2 + [6] * 10), {}, "static(replicas=4)", None),
    "too few replicas": (trace([14] * 20), {}, "static(replicas=3)", None),
    "KV saturation": (trace([1.3] * 20, outputs=(200, 0.2)), {"kv_tokens": 2000}, "static(replicas=2)", None),
    "imbalance": (trace([10] * 20, talkative=0.5), {}, "static(replicas=5)", "session-affinity"),
    "forecast miss": (trace([4, 16] * 10), {"startup_s": 0.0}, "last-value", None),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_trouble_is_found_for_what_it_is(planted, tmp_path):
    table, profile, policy, router = PLANTED[planted]
    worst, done = found(benched(tmp_path, table, "planted", **profile), policy, router)
    assert worst.schema == pl.Schema({**WORST, **FOUND}) and done.schema == pl.Schema(DONE)
    assert worst["missed"].sum() > 500
    right = worst.filter(pl.col("cause") == planted)
    assert right["missed"].sum() > 0.9 * worst["missed"].sum(), worst.select("rule", "cause", "mended")
    assert (right["mended"] > 0.5).all() and set(worst["how"]) == {"by replay"}
    assert set(done["change"]) == set(CHANGES) and set(CHANGES.values()) <= set(CAUSES)
    hour = hours(done).row(0, named=True)
    assert hour["cause"] == planted and hour["missed"] >= worst["missed"].max()


def test_the_rules_see_a_kv_shortage_where_more_replicas_would_only_hide_it(tmp_path):
    table, profile, policy, router = PLANTED["KV saturation"]
    worst, _ = found(benched(tmp_path, table, "small", **profile), policy, router)
    assert (worst["needed"] > worst["active"]).any() and set(worst["rule"]) == {"KV saturation"}
    table, profile, policy, router = PLANTED["too few replicas"]  # full caches, and too small a fleet without them, too
    worst, _ = found(benched(tmp_path, table, "few", **profile, kv_tokens=4000), policy, router)
    assert (worst["preempted"] > 0.05).all() and set(worst["rule"]) == {"too few replicas"}


@pytest.mark.parametrize("talkative, replicas", [(0.5, 5), (1.0, 3)])
def test_sessions_that_pin_the_load_are_an_imbalance_whatever_waits(talkative, replicas, tmp_path):
    """One replica's queue grows without end, the others have none: with talkative=1 they have nothing at all to do."""
    pinned = trace([10 if talkative < 1 else 6] * 20, talkative=talkative)
    worst, _ = found(benched(tmp_path, pinned, "pinned"), f"static(replicas={replicas})", "session-affinity")
    assert (worst["queue"] > 100).all()
    assert set(worst["rule"]) == set(worst["cause"]) == {"imbalance"}


@pytest.mark.parametrize("router", ["least-requests", "session-affinity"])
def test_what_a_spike_left_waiting_everywhere_is_a_backlog(router, tmp_path):
    """By rule; by replay it is the spike, without which nothing would have waited."""
    worst, _ = found(benched(tmp_path, trace([6] * 5 + [30] * 2 + [6] * 13), "spike"), "static(replicas=4)", router)
    after = worst.filter((pl.col("start_s") >= HALF_S + 7 * WINDOW_S) & (pl.col("missed") > 500))
    assert after.height == 4
    assert set(after["rule"]) == {"backlog"} and set(after["cause"]) == {"demand spike"}


def test_a_backlog_on_replicas_that_new_ones_stand_beside_is_none_of_the_routers_doing(tmp_path):
    """The new ones come within the window: nothing could have been sent there before."""
    worst, _ = found(benched(tmp_path, trace([4] * 5 + [24] * 15), "late", startup_s=240.0), "hpa", "round-robin")
    seen = worst.filter((pl.col("lopsided") > 0.9) & (pl.col("needed") < pl.col("active")) & (pl.col("missed") > 1000))
    assert seen["rule"].to_list() == ["backlog"] and seen["cause"].to_list() == ["cold start"]


def test_a_change_that_cannot_be_replayed_says_why(tmp_path):
    _, done = found(benched(tmp_path, trace([14] * 20), "static"), "static(replicas=3)")
    why = dict(done.drop_nulls("why").select("change", "why").unique().iter_rows())
    assert why == {"true demand": "it has no forecast", "instant start": "none of its replicas has to start"}
    assert done.filter(pl.col("why").is_not_null())["mended"].null_count() == done["why"].count()


@pytest.mark.parametrize(
    "rule, mended, expected",
    [
        ("", {"instant start": 0.6, "true demand": 0.7, "doubled fleet": 1.0}, "forecast miss"),
        ("", {"instant start": 0.4, "levelled demand": 0.6, "doubled fleet": 1.0}, "demand spike"),
        ("", {"instant start": 0.4, "levelled demand": 0.2, "doubled fleet": 0.9}, "too few replicas"),
        ("", {"instant start": 0.4, "levelled demand": 0.2, "doubled fleet": -3.0}, "not attributed"),
        ("out of reach", {"instant start": 0.1, "doubled fleet": 0.9}, "out of reach"),
        ("out of reach", {"unlimited KV": 0.5}, "KV saturation"),
        ("cold start", {}, "not attributed"),
    ],
)
def test_the_cause_is_what_mends_most_if_it_mends_enough(rule, mended, expected):
    assert cause(rule, mended)["cause"] == expected
