"""The kernel equals the slow reference with every feature on: each alone, and mixed."""

import math
import os

import pytest
from cases import same_lives
from cases_full import FEATURES, full_cases, play_slow
from cases_kernel import play_fast
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmaas.replay import columns as c

EXAMPLES = 10 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 60
quick = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
)
STATUS = {"ok": c.OK, "rejected": c.REJECTED, "waiting": c.UNSERVED, "abandoned": c.ABANDONED, "not-sent": c.NOT_SENT}


def same(a, b):
    return (a is None and math.isnan(b)) or (a is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9))


def check(case):
    rows, fleet = play_slow(case)
    outcome, replay = play_fast(case)
    numbers = dict(outcome.replicas.select("record", "replica").iter_rows())
    for k, row in enumerate(rows):
        assert outcome.status[k] == STATUS[row.status], (k, row.status, outcome.status[k])
        if row.status not in ("ok", "rejected", "abandoned"):
            continue
        assert outcome.pool[k] == row.pool, k
        if row.status == "ok":
            assert numbers[outcome.record[k]] == row.replica, k
            assert same(row.admitted, outcome.admitted_s[k]), (k, "admitted", row.admitted, outcome.admitted_s[k])
            assert same(row.first, outcome.first_s[k]), (k, "first", row.first, outcome.first_s[k])
            assert same(row.done, outcome.done_s[k]), (k, "done", row.done, outcome.done_s[k])
        for name, mine in (
            ("preemptions", outcome.preemptions), ("restarts", outcome.restarts), ("network", outcome.network_s),
            ("hold", outcome.hold_s), ("cached_tokens", outcome.cached_tokens), ("transfer", outcome.transfer_s),
        ):  # fmt: skip
            assert same(float(getattr(row, name)), float(mine[k])), (k, name, getattr(row, name), mine[k])
        assert outcome.tries[k] == row.tries - 1, k
        where = None if not outcome.prefilled[k] else outcome.replicas.row(outcome.prefilled[k] - 1)[1:3]
        assert where == row.prefilled, (k, "prefilled", row.prefilled, where)
    denied = [fleet.denied.get(p, 0) for p in range(len(case["counts"]))]
    assert outcome.denied.tolist() == denied, ("denied", denied, outcome.denied.tolist())
    same_lives(fleet, outcome)
    return rows, outcome, replay


@pytest.mark.parametrize("feature", FEATURES)
@quick
@given(st.data())
def test_a_feature_equals_reference(feature, data):
    check(data.draw(full_cases([feature])))


@quick
@given(full_cases())
def test_features_together_equal_reference(case):
    check(case)
