"""What is due as the replay begins is decided then: without a warm-up, or where the lead is as long as it."""

import json

import numpy as np
import pytest
from three_hours import PROFILE, rows, stored

from lmaas.policies.inputs import Inputs
from lmaas.policies.planning import counts_by_start
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import _planner


@pytest.mark.parametrize(("warmup_s", "lead_s"), [(0.0, 90.0), (0.0, 0.0), (600.0, 600.0), (600.0, 90.0)])
def test_the_first_window_is_planned_for_in_time(warmup_s, lead_s, tmp_path):
    (tmp_path / "profile.json").write_text(json.dumps(PROFILE))
    ready = prepare(
        stored(tmp_path, rows(), "plain"), slos=(), attain=0.99, profile=str(tmp_path / "profile.json"), fleet=None,
        train_fraction=0.5, warmup_s=warmup_s, window_s=600.0, load=1.0, seed=0,
    )  # fmt: skip
    policy = parse_policy(f"last-value(lead_s={lead_s:g}, forecaster=mean)").policy
    state = policy.start(ready.fleet, ready.history)
    forecasts = Inputs(ready).demand("mean", state.lead_s)
    controller = _planner(policy, state, forecasts, ready)
    due = controller.next_after(ready.start_s)
    assert ready.start_s < due == pytest.approx(max(ready.start_s, ready.cut_s - lead_s), abs=1e-6)
    _, wanted = counts_by_start(policy.plan_all(forecasts, state), ready.fleet)
    asked = controller.act(due, None).replicas
    np.testing.assert_array_equal([asked[p] for p in range(len(ready.fleet.pools))], wanted[0])
