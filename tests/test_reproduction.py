"""What benchmarks/reproduce.py compares and how it goes on where it was cut off."""

import json
import re
import sys
from concurrent.futures import Future

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import reproduce
from reproduce_replay import Point, facts, profile_of, replayed
from reproduce_rows import ABLATIONS, ROWS, SETTINGS

from lmaas.policies.knobs import knob_of
from lmaas.policies.registry import POLICIES, parse_policy
from lmaas.replay.profile import find_profile

ASKED = {text for row in ROWS for text in (row.policy, *row.against)} | {
    text for one in ABLATIONS for _, text, _ in one.cases
}


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
    return reproduce.Kept(tmp_path / "replays.jsonl", Pool(linear))


SETTING = SETTINGS["conversations"]


def test_every_row_can_be_asked_for():
    for row in ROWS:
        assert row.setting in SETTINGS
        assert set(row.measures) <= reproduce.MEASURES.keys()
    tiers = hasattr(POLICIES.load("preserve"), "tier2")
    for text in ASKED:
        if text.partition("(")[0] in POLICIES and (tiers or not {"tier2", "scale_in"} & set(re.findall(r"\w+", text))):
            assert knob_of(parse_policy(text).policy), text


def test_profiles_are_what_the_setting_says(tmp_path):
    made, shipped = find_profile(profile_of(SETTING, tmp_path)), find_profile(SETTING.profile[0])
    assert (made.kv_tokens, made.max_seqs, made.startup_s.cold) == (36_896, 128, 30.0)
    assert made.latency.decode_kv == pytest.approx(4 * shipped.latency.decode_kv)


def test_a_policy_is_tuned_and_compared_at_equal_hours(kept):
    found = reproduce.tuned(kept, SETTING, "last-value")
    assert found.at.value == pytest.approx(0.5, abs=0.03)
    assert found.at.attainment >= 0.99
    beside = reproduce.at_hours(kept, SETTING, found, 25.0)
    assert beside.gpu_hours == pytest.approx(25.0, rel=reproduce.NEAR)
    assert reproduce.tail(kept, SETTING, found, found) == "+0.0%"
    assert reproduce.gpu_hours(kept, SETTING, found, found) == "+0.0%"


def test_hours_that_a_policy_cannot_have_are_not_compared(kept):
    found = reproduce.tuned(kept, SETTING, "hpa")
    ours = reproduce.Tuned("hpa", (), Point(0.0, 1.0, 1000.0, norm_p99_s=1.0))
    assert reproduce.tail(kept, SETTING, ours, found).startswith("– (its closest: -90%")


def test_what_was_replayed_is_not_replayed_again(kept):
    first = reproduce.tuned(kept, SETTING, "hpa")
    made = kept.made
    assert made == len(first.tries)
    with kept.path.open("a") as file:
        file.write('{"key": "cut o')
    again = reproduce.Kept(kept.path, Pool(linear))
    assert reproduce.tuned(again, SETTING, "hpa") == first
    assert again.made == 0
    again.code = "other"  # what was replayed by other code does not count
    assert reproduce.tuned(again, SETTING, "hpa") == first
    assert again.made == made


def test_what_cannot_be_tuned_is_said(kept):
    kept.pool.make = lambda setting, text, value: 1 / 0
    assert reproduce.tuned(kept, SETTING, "no-such-policy") == "not in this version"
    assert reproduce.tuned(kept, SETTING, "hpa").startswith("failed: division")


def test_tables_show_what_was_found(kept):
    found = reproduce.tuned(kept, SETTING, "hpa")
    line = reproduce.of_policy("hpa", found)
    assert line[0] == "`hpa`"
    assert line[1] == "66.00%, 10.0"
    assert line[4] == f"{found.at.gpu_hours:,.1f}"
    assert len(line) == len(reproduce.POLICY_HEAD)
    assert reproduce.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_a_replay_of_the_sample_is_a_point():
    """The real thing, as a process plays it."""
    setting = SETTINGS["sample"]
    one = replayed(setting, "static-mean", 0.0)
    assert 0 < one.attainment < 1
    assert one.norm_p99_s > 0
    assert facts(setting)["pools"] == 9
    assert Point(**json.loads(json.dumps(reproduce.asdict(one)))) == one
