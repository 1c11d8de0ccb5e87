"""The static fleet at equal GPU-hours, and the fleet that runs today."""

import json

import numpy as np
import polars as pl
import pytest
from evaluation_data import HOSTILE, ROLES, evaluation, scores, texts
from three_hours import PROFILE, rows, stored

from lmaas.policies import evaluate
from lmaas.policies.equal import CLOSE, EQUAL, SCORES, counts_around
from lmaas.replay.fleet import BATCH, INTERACTIVE, Fleet, Pool
from lmaas.replay.profile import Profile
from lmaas.reports.report import evaluation_report
from lmaas.reports.schema import EvaluationMetrics

ASK = {"window_s": 300.0, "warmup_s": 300.0}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(PROFILE))
    return home


@pytest.fixture(scope="module")
def trace(home):
    return stored(home, rows(n=9000, hours=1.5), "plain")


@pytest.fixture(scope="module")
def found(home, trace):
    policies = ["hpa", "static(replicas=2)", "last-value"]
    return evaluate(trace, policies, profile=str(home / "profile.json"), jobs=2, **ASK)


def fleet_of(*gpus, mixed=0):
    profiles = [Profile.model_validate({**PROFILE, "name": f"p{n}", "gpus_per_replica": n}) for n in gpus]
    beside = ((profiles[0], mixed),) if mixed else ()
    return Fleet(tuple(Pool(f"s{k}", "r", p, mixed=() if k else beside) for k, p in enumerate(profiles)))


def test_counts_stay_within_the_gpus_and_the_next_do_not():
    rng = np.random.default_rng(0)
    two = 0
    for _ in range(300):
        each = rng.choice([1, 2, 8], rng.integers(1, 6)).tolist()
        fleet = fleet_of(*each)
        share = {
            (p.service, p.region, p.lane): float(n * rng.uniform(1, 12)) for p, n in zip(fleet.pools, each, strict=True)
        }
        around, total = counts_around(share, fleet), sum(share.values())
        spent = [sum(n * size for n, size in zip(counts, each, strict=True)) for counts in around]
        assert spent[0] <= total + 1e-6
        wanted = [gpus / size for gpus, size in zip(share.values(), each, strict=True)]
        for counts in around:  # each pool has its part, rounded down or up
            assert all(np.floor(w + 1e-9) <= n <= np.ceil(w) for n, w in zip(counts, wanted, strict=True))
        short = [size for n, w, size in zip(around[0], wanted, each, strict=True) if n < w - 1e-6]
        assert not short or min(short) > total - spent[0] - 1e-6  # no pool's part could be rounded up within the GPUs
        assert (len(around) == 2) == (spent[0] < total * (1 - CLOSE))
        if len(around) == 2:
            two += 1
            assert spent[1] >= total - 1e-6
    assert 50 < two < 290


def test_counts_by_hand():
    fleet = fleet_of(1, 2)
    key = [(p.service, p.region, p.lane) for p in fleet.pools]
    assert counts_around(dict(zip(key, [3.0, 4.0], strict=True)), fleet) == [(3, 2)]
    assert counts_around(dict(zip(key, [3.9, 4.2], strict=True)), fleet) == [(4, 2)]
    assert counts_around(dict(zip(key, [3.2, 5.6], strict=True)), fleet) == [
        (4, 2),
        (3, 3),
    ]  # 0.8 of two GPUs is furthest below
    assert counts_around(dict(zip(key, [0.1, 0.0], strict=True)), fleet) == [(1, 0)]
    assert counts_around(dict(zip(key, [5.0, 4.0], strict=True)), fleet_of(1, 2, mixed=2)) == [(3, 2)]


def test_silos_come_back_to_their_pool():
    gpus = {("s0", "r", INTERACTIVE): 2.5, ("s0", "r", BATCH): 1.5}
    assert counts_around(gpus, fleet_of(1)) == [(4,)]


def test_every_policy_that_scales_has_one(found):
    assert found.equal.schema == pl.Schema(EQUAL)
    assert found.equal["policy"].unique(maintain_order=True).to_list() == ["hpa", "last-value"]
    assert found.equal["foresight"].all()
    for row in found.equal.iter_rows(named=True):
        spent = found.scores.filter(pl.col("policy") == row["policy"])["gpu_hours_provisioned"].item()
        assert row["gpu_hours_off"] == pytest.approx(row["gpu_hours_provisioned"] / spent - 1)
        if row["bound"] == "at most":
            assert row["gpu_hours_off"] < 0.01  # but for the tail, in which a static fleet drains on
    EvaluationMetrics.model_validate(found.metrics())


def test_it_is_the_fleet_of_these_counts(found, home, trace):
    """The same counts as a fleet that runs today, with the same router, score the same."""
    row = found.equal.filter(pl.col("policy") == "hpa").row(0, named=True)
    counts = dict(part.rsplit(" ", 1) for part in row["replicas"].split(", "))
    assert len(counts) == 4
    said = [
        f"  - {{service: {pool.split('/')[0]}, region: {pool.split('/')[1]}, replicas: {n}}}\n"
        for pool, n in counts.items()
    ]
    (home / "fleet.yaml").write_text("pools:\n" + "".join(said))
    again = evaluate(
        trace, [], baselines=["current"], profile=str(home / "profile.json"), fleet=home / "fleet.yaml", **ASK
    )
    assert again.scores.row(0, named=True) | {n: row[n] for n in SCORES} == again.scores.row(0, named=True)


def test_today_is_a_baseline_where_the_file_has_it(home, trace):
    (home / "part.yaml").write_text("pools:\n  - {service: chat, region: eu, replicas: 4}\n")
    (home / "none.yaml").write_text("pools:\n  - {service: chat, region: eu, max: 40}\n")
    told, untold = (
        evaluate(trace, ["static(replicas=3)"], profile=str(home / "profile.json"), fleet=home / name, **ASK)
        for name in ("part.yaml", "none.yaml")
    )
    assert told.scores["policy"].to_list()[1] == "current"
    assert "current" not in untold.scores["policy"]
    (note,) = [note for note in told.notes if note.startswith("current: the fleet file names no replicas")]
    assert "chat/us" in note and "chat/eu" not in note


def test_none_without_baselines(home, trace):
    alone = evaluate(trace, ["hpa"], baselines=["none"], profile=str(home / "profile.json"), **ASK)
    assert alone.equal.is_empty() and alone.metrics()["equal"] == []


def beside(policy, bound, hours, attained, ttft):
    row = {"policy": policy, "bound": bound, "foresight": True, "replicas": "chat/us/shared 3", "gpu_hours_off": 0.0}
    given = {"gpu_hours_provisioned": hours, "slo_attainment": attained, "ttft_p99_s": ttft}
    return row | dict.fromkeys(SCORES, 1.0) | given


def shown(*fleets, roles=ROLES):
    return evaluation(roles=roles, scores=scores(roles), equal=pl.DataFrame(fleets, schema=EQUAL, orient="row"))


def test_the_report_says_where_a_static_fleet_does_better():
    """preserve: 99.21 % attained, TTFT p99 1,200 ms, 412.3 GPU-hours."""
    better = texts(shown(beside("preserve", "at most", 410.0, 0.995, 0.9)))
    assert "A static fleet of no more GPU-hours does better than preserve: 99.50 % attained" in better
    for worse in (
        beside("preserve", "at most", 410.0, 0.99, 0.9),  # attains less
        beside("preserve", "at most", 410.0, 0.9921, 1.3),  # as much, later
        beside("preserve", "at least", 430.0, 0.999, 0.9),  # for more
    ):
        said = texts(shown(worse))
        assert "does better than preserve" not in said
        assert "↳ static ≤" in said or "↳ static ≥" in said  # and is shown all the same


def test_its_row_stands_below_the_policy():
    pair = [beside("hpa", "at most", 400.0, 0.9, 0.9), beside("hpa", "at least", 480.0, 0.95, 0.9)]
    report = evaluation_report(shown(*pair), ["evaluate"], "run")
    section = next(s for s in report.sections if s.anchor == "policies")
    names = section.tables[0].rows["policy"].to_list()
    assert names[1:4] == ["hpa", "↳ static ≤ its GPU-h", "↳ static ≥ its GPU-h"]
    assert len(names) == len(ROLES) + 2


def test_names_of_policies_are_shown_as_text():
    from lmaas.reports.html import html

    roles = {f"hpa{HOSTILE}": "policy", "static-peak": "baseline"}
    page = html(
        evaluation_report(shown(beside(f"hpa{HOSTILE}", "at most", 400.0, 1.0, 0.9), roles=roles), ["x"], "run")
    )
    assert "does better than hpa&lt;script&gt;" in page and HOSTILE not in page
