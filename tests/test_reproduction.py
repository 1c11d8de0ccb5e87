"""What benchmarks/reproduce.py compares and how it goes on where it was cut off."""

import json
import re
import sys
from concurrent.futures import Future
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from conftest import ROOT
from three_hours import PROFILE, rows, stored

sys.path.insert(0, str(ROOT / "benchmarks"))
import reproduce
import reproduce_costs
import reproduce_search
from reproduce_cases import CASES, NAMES, cases_table, tiers_table
from reproduce_costs import LOOKS, PARTS, ROUTES, TURNS, overhead
from reproduce_replay import Point, begun, binned_hours, by_tier, facts, profile_of, replayed, trace_file
from reproduce_rows import ABLATIONS, FLEETS, LENGTH_ERROR, ROWS, SETTINGS, Row
from reproduce_search import Kept, Tuned, as_it_comes, tuned

from lmaas.policies.inputs import Inputs
from lmaas.policies.knobs import knob_of
from lmaas.policies.prepare import prepare
from lmaas.policies.reacting import anticipation_of
from lmaas.policies.registry import POLICIES, parse_policy
from lmaas.policies.runner import run_policy
from lmaas.policies.told import off
from lmaas.replay.profile import find_profile

ASKED = (
    {text for row in ROWS for text in (row.policy, *row.against)}
    | {text for one in ABLATIONS for _, text, _ in one.cases}
    | {text for case in CASES for _, text in case.pairs}
)


class Pool:
    """Makes at once what a process would make."""

    def __init__(self, make):
        self.make, self.asked = make, []

    def submit(self, what, *arguments):
        self.asked.append(arguments)
        ended = Future()
        try:
            ended.set_result(self.make(*arguments))
        except Exception as error:
            ended.set_exception(error)
        return ended


def linear(setting, text, value):
    """GPU-hours are 10 · (1 + headroom), 99 % is attained from a headroom of 0.5 on, the tail is their inverse."""
    factor = 1 + value
    return Point(value, min(1.0, 0.99 * factor / 1.5), 10 * factor, norm_p99_s=1 / factor)


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path / "replays.jsonl", Pool(linear))


SETTING = SETTINGS["conversations"]


def test_every_row_can_be_asked_for():
    for row in ROWS:
        assert row.setting in SETTINGS
        assert set(row.measures) <= reproduce.MEASURES.keys()
    tiers = hasattr(POLICIES.load("preserve"), "tier2")
    for text in ASKED:
        if text.partition("(")[0] in POLICIES and (tiers or not {"tier2", "scale_in"} & set(re.findall(r"\w+", text))):
            assert knob_of(parse_policy(text).policy), text


def test_the_overhead_is_of_all_parts():
    found = {"alone": 1e-3, "batch": 1e-6, "service": 4.0} | dict.fromkeys(PARTS[1:], 2e-3)
    assert PARTS == ("alone", "route", "anticipate", "forecast", "plan")
    assert overhead(found) == pytest.approx(9e-3 / 4)
    assert overhead(found, "batch") == pytest.approx(8.001e-3 / 4)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three hours of two services, made ready."""
    home = tmp_path_factory.mktemp("small")
    (home / "profile.json").write_text(json.dumps(PROFILE))
    return prepare(
        stored(home, rows(), "small"), slos=(), attain=0.99, profile=str(home / "profile.json"), fleet=None,
        train_fraction=0.5, warmup_s=600.0, window_s=300.0, load=1.0, seed=0,
    )  # fmt: skip


def test_what_is_measured_differs_in_the_router_and_in_looking_ahead_alone(small):
    """The same count in every pool at every time, with the map of the KV to come and without."""
    assert [anticipation_of(parse_policy(text).policy).iterations for text in (TURNS, ROUTES, LOOKS)] == [0, 0, 100]
    inputs, runs = Inputs(small), []
    for named in map(parse_policy, (ROUTES, LOOKS)):
        cheap = replace(named, policy=replace(named.policy, forecaster="last-value", lengths="median"))
        runs.append(run_policy(cheap, small, inputs, lambda share: None))
    columns = ["start_s", "service", "region", "provisioned"]
    assert runs[0].timeline.select(columns).equals(runs[1].timeline.select(columns))
    assert runs[0].rows["e2e_s"].equals(runs[1].rows["e2e_s"])


def test_every_part_is_measured(small, monkeypatch):
    monkeypatch.setattr(reproduce_costs, "readied", lambda setting: (small, None))
    monkeypatch.setattr(reproduce_costs, "ALONE", 3)
    monkeypatch.setattr(reproduce_costs, "TIMES", 1)
    found = reproduce_costs.costs(SETTING)
    assert found.keys() == {*PARTS, "batch", "service"}
    assert found["alone"] > found["batch"] > 0
    assert min(found["forecast"], found["plan"], found["service"], overhead(found)) > 0


def test_the_injected_length_error_is_the_published_one():
    """PreServe publishes an MAE of 78.25 tokens; the second half of the hour is replayed."""
    path = trace_file("azure-conv")
    if path is None:
        pytest.skip("azure-llm-2023 is not beside the checkout")
    tokens = pl.read_csv(path)["GeneratedTokens"].to_numpy().astype(float)
    tokens = tokens[len(tokens) // 2 :]
    assert abs(off(tokens, LENGTH_ERROR, 0) - tokens).mean() == pytest.approx(78.25, abs=4)


def test_profiles_are_what_the_setting_says(tmp_path):
    made, shipped = find_profile(profile_of(SETTING, tmp_path)), find_profile(SETTING.profile[0])
    assert (made.kv_tokens, made.max_seqs, made.startup_s.cold) == (36_896, 128, 30.0)
    assert made.latency.decode_kv == pytest.approx(4 * shipped.latency.decode_kv)


def test_a_policy_is_tuned_and_compared_at_equal_hours(kept):
    found = tuned(kept, SETTING, "last-value")
    assert found.at.value == pytest.approx(0.5, abs=0.03)
    assert found.at.attainment >= 0.99
    nearer = reproduce_search.toward(kept, SETTING, found, 25.0)
    assert nearer.closest(25.0).gpu_hours == pytest.approx(25.0, rel=reproduce_search.NEAR)
    assert nearer.at == found.at
    assert reproduce.tail(found, found) == "+0.0%"
    assert reproduce.gpu_hours(found, found) == "+0.0%"


def test_the_search_ends_by_its_tolerance():
    """Nothing but a trace that takes long is cut off before."""
    assert reproduce_search.FEWER.keys() <= {setting.trace for setting in SETTINGS.values()}
    assert min(reproduce_search.FEWER.values()) < reproduce_search.MOST_REPLAYS


def test_the_fewest_hours_that_attain_are_shown_not_the_least_knob():
    few, many, fails = Point(0.9, 0.991, 8.0), Point(0.1, 0.995, 12.0), Point(0.0, 0.9, 7.0)
    found = Tuned("hpa", 0.99, (Point(-0.5, 0.8, 3.0), many, fails, few))
    assert (found.at, found.below) == (few, fails)
    line = dict(zip(reproduce.POLICY_HEAD, reproduce.of_policy("hpa", found), strict=True))
    assert line["between"] == "7.00, 8.00"
    assert line["attained"] == "99.10%"


def test_what_attains_between_steps_alone_is_looked_for(kept):
    """Attainment need not rise with the knob: only headrooms of 2.6 to 3 attain, none of them a step of the search."""
    kept.pool.make = lambda setting, text, value: Point(value, 0.995 if 2.6 < value < 3 else 0.9, 10 * (1 + value))
    assert 2.6 < tuned(kept, SETTING, "hpa").at.value < 3
    assert tuned(kept, SETTINGS["fortnight"], "hpa").at is None  # too dear there
    kept.pool.make = lambda setting, text, value: Point(value, 0.9, 10 * (1 + value))
    assert len(tuned(kept, SETTINGS["code"], "hpa").tries) == reproduce_search.MOST_REPLAYS


def test_its_least_is_said_of_the_knobs_least_alone():
    least, own = Point(-0.9, 1.0, 5.0), Point(0.0, 1.0, 6.0)
    said = [reproduce.of_policy("hpa", Tuned("hpa", 0.99, tries)) for tries in ((own, least), (own,))]
    assert [line[3] for line in said] == ["100.00% (its least)", "100.00%"]
    assert said[0][5] == "–, 5.00"


def test_replays_at_others_hours_count_before_anything_is_printed(kept):
    """hpa attains with fewer GPU-hours at a headroom that only the comparison of tails tries."""

    def make(setting, text, value):
        one = linear(setting, text, value)
        return replace(one, attainment=0.995) if text == "hpa" and 1.25 < 1 + value < 1.35 else one

    kept.pool.make = make
    row = Row("PreServe", "conversations", "knative", ("hpa",), ("GPU-hours", "tail"))
    hpa = tuned(kept, SETTING, "hpa")
    knative = Tuned("knative", 0.99, (Point(0.0, 1.0, 13.0, norm_p99_s=1.0),))
    found = {(SETTING, "hpa"): hpa, (SETTING, "knative"): knative}
    reproduce_search.explore(kept, found, SETTING, [row])
    assert hpa.at.gpu_hours == pytest.approx(15.0, rel=0.03)
    assert found[SETTING, "hpa"].at.gpu_hours == pytest.approx(13.0, rel=reproduce_search.NEAR)


def test_hours_that_a_policy_cannot_have_are_not_compared(kept):
    found = tuned(kept, SETTING, "hpa")
    ours = Tuned("hpa", 0.99, (Point(0.0, 1.0, 1000.0, norm_p99_s=1.0),))
    assert reproduce.tail(ours, found).startswith("– (its closest: -9")


def test_nothing_is_compared_with_what_attains_nowhere():
    ours = Tuned("hpa", 0.99, (Point(0.0, 1.0, 10.0, ttft_p90_s=1.0, e2e_p90_s=2.0),))
    theirs = Tuned("hpa", 0.99, (Point(0.0, 0.5, 10.0, ttft_p90_s=3.0, e2e_p90_s=4.0),))
    assert reproduce.latency(ours, theirs) == "1.00, 2.0 s / –"
    assert [
        measure(ours, theirs) for name, measure in reproduce.MEASURES.items() if name not in ("latency", "tail")
    ] == ["–"] * 4


def test_writing_replaces_the_sections_made_and_leaves_the_others():
    """Above the mark nothing changes; below it sections go by their headings, new ones come last."""
    page = f"# Page\n\n### a\n\nby hand\n\n{reproduce.MARK}\n\n### a\n\nold\n\n### a, b\n\nstays\n"
    made = [reproduce.section("a", "new"), reproduce.section("c", "added")]
    after = reproduce.written(page, made)
    above, below = after.split(reproduce.MARK)
    assert above == page.split(reproduce.MARK)[0]
    assert re.findall("^### .*", below, re.MULTILINE) == ["### a", "### a, b", "### c"]
    assert "old" not in below
    assert below.count("stays") == 1
    assert below.count("; code ") == 2  # each says with what it was made
    assert reproduce.written(after, made) == after
    assert reproduce.written(page, []) == page


def test_what_was_replayed_is_not_replayed_again(kept):
    first = tuned(kept, SETTING, "hpa")
    made = kept.made
    assert made == len(first.tries)
    with kept.path.open("a") as file:
        file.write('{"key": "cut o')
    again = Kept(kept.path, Pool(linear))
    assert tuned(again, SETTING, "hpa") == first
    assert again.made == 0
    again.code = "other"  # what was replayed by other code does not count
    assert tuned(again, SETTING, "hpa") == first
    assert again.made == made


def test_what_cannot_be_tuned_is_said(kept):
    kept.pool.make = lambda setting, text, value: 1 / 0
    assert tuned(kept, SETTING, "no-such-policy") == "not in this version"
    assert tuned(kept, SETTING, "hpa").startswith("failed: division")


def test_tables_show_what_was_found(kept):
    found = tuned(kept, SETTING, "hpa")
    line = reproduce.of_policy("hpa", found)
    assert line[0] == "`hpa`"
    assert line[1] == "66.00%, 10.00"
    assert line[4] == f"{found.at.gpu_hours:,.2f}"
    assert len(line) == len(reproduce.POLICY_HEAD)
    assert reproduce.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_a_replay_of_the_sample_is_a_point():
    """The real thing, as a process plays it."""
    setting = SETTINGS["sample"]
    one = replayed(setting, "static-mean", 0.0)
    assert 0 < one.attainment < 1
    assert one.gpu_hours * 0.99 < one.binned_hours + one.tail_hours  # a constant fleet: every bin has as many
    assert one.norm_p99_s > 0
    assert facts(setting)["pools"] == 9
    assert Point(**json.loads(json.dumps(asdict(one)))) == one


def test_a_fleet_has_words():
    """A setting's description says what its fleet is."""
    assert {setting.fleet for setting in SETTINGS.values()} <= {None, *FLEETS.values()}


def test_what_is_replayed_as_it_comes_has_the_policys_own_knob(kept):
    assert as_it_comes(kept, SETTING, "hpa").value == 0.0
    assert as_it_comes(kept, SETTING, "sageserve-lt-u(headroom=1)").value == 1.0


def test_hours_by_bins_count_the_most_of_each_and_nothing_lent_or_outside():
    """One replica, for a while two; then a lent one; then one that drains."""
    spans = pl.DataFrame(
        {
            "pool": [0, 0, 0, 0],
            "state": ["active", "starting", "donated", "draining"],
            "from_s": [0.0, 300.0, 900.0, 1800.0],
            "to_s": [900.0, 400.0, 1800.0, 9000.0],
        }
    )
    pool = SimpleNamespace(profile=SimpleNamespace(gpus_per_replica=4))
    run, fleet = SimpleNamespace(spans=spans), SimpleNamespace(pools=[pool])
    assert binned_hours(run, fleet, np.array([0.0, 900.0, 1800.0])) == 2 * 4 / 4
    assert binned_hours(run, fleet, np.array([0.0, 900.0, 1800.0, 2700.0])) == 3 * 4 / 4  # what begins on an edge


def test_tiers_count_who_never_ended_as_late_for_ever():
    rows = pl.DataFrame(
        {
            "scored_tier": ["batch"] + ["interactive-fast"] * 20,
            "attained": [True] + [True] * 15 + [False] * 5,
            "ttft_s": [7.0] + [float(k) for k in range(19)] + [None],
            "e2e_s": [9.0] + [2.0 * k for k in range(19)] + [None],
        }
    )
    found = by_tier(rows)
    assert found["batch"] == [1.0, 7.0, 7.0, 9.0]
    assert found["interactive-fast"] == found["interactive"] == [0.75, np.inf, 18.0, 36.0]


def test_the_first_hours_of_a_trace(tmp_path, monkeypatch):
    monkeypatch.setattr("reproduce_replay.KEPT", tmp_path / "kept")
    pl.DataFrame({"arrival_s": [0.0, 3599.0, 3600.0]}).write_parquet(tmp_path / "t.parquet")
    path = begun(tmp_path / "t.parquet", 1)
    assert pl.read_parquet(path)["arrival_s"].to_list() == [0.0, 3599.0]
    assert begun(tmp_path / "t.parquet", 1) == path


def test_cases_are_compared_with_both_baselines():
    case = CASES[0]
    hours = dict(zip(NAMES, (200.0, 100.0, 50.0, 80.0, 120.0), strict=True))
    points = [Point(0.0, 0.97, hours[name], binned_hours=2 * hours[name]) for name in NAMES]
    said = cases_table((case,), dict(zip(case.pairs, points, strict=True))).splitlines()[-1]
    assert "97.0%, 100 (200), -50.0%" in said
    assert "97.0%; -60.0%; -20.0%; -20.0%" in said


def test_tiers_are_shown_as_it_comes_and_tuned():
    tiers = {name: [1.0, 1.5, 2.5, 3.5] for name in ("interactive-fast", "batch", "interactive")}
    found = Tuned("hpa", 0.99, (Point(0.0, 0.9, 10.0, tiers=tiers), Point(0.5, 0.99, 15.0, usd_month=7.0, tiers=tiers)))
    own, at = tiers_table([found, "failed: by itself"]).splitlines()[2:]
    assert own == "| `hpa` | 1.5 | – | 1.5 | 2.5, 3.5 | 0.0 | 0.00 | 0.0 | – |"
    assert at.startswith("| tuned |")
    assert at.endswith("| 7 |")
