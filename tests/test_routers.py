"""Routers: each equals its plain twin through a whole fleet, and keeps its own laws."""

import os
from dataclasses import replace

import numpy as np
import pytest
from cases import assert_same, expected
from cases_routers import play_fast, play_slow, router_cases
from hypothesis import HealthCheck, given, settings

from lmaas.replay import columns as c
from lmaas.replay.routers import ROUTERS

EXAMPLES = 10 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 100
quick = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
)
BUILTIN = list(ROUTERS.builtin)
LINEAR = [name for name in BUILTIN if ROUTERS.load(name).weights]


@pytest.mark.parametrize("name", BUILTIN)
def test_equals_its_plain_twin(name):
    @quick
    @given(router_cases((name,)))
    def check(case):
        rows, _ = play_slow(case)
        outcome, _ = play_fast(case)
        assert_same(expected(rows), outcome)

    check()
