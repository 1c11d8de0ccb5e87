"""A policy that parts pools by tier stands beside those that share them: in the same figures and the same table."""

from dataclasses import replace

import polars as pl
from evaluation_data import evaluation

from lmaas.replay.fleet import SILOS
from lmaas.reports.evaluate import capacity


def parted(result, policy):
    """The same with the policy's pools in two, a quarter of every number in the second."""
    mine = pl.col("policy") == policy
    parts = [
        result.timeline.filter(mine).with_columns(pl.col("needed", "active", "provisioned") * share, lane=pl.lit(lane))
        for lane, share in zip(SILOS, (0.75, 0.25), strict=True)
    ]
    return replace(result, timeline=pl.concat([result.timeline.filter(~mine), *parts]))


def test_silos_are_added_up_beside_the_shared_pools_of_others():
    result = evaluation()
    shared, split = capacity.section(result), capacity.section(parted(result, "hpa"))
    assert [figure.caption for figure in split.figures] == [figure.caption for figure in shared.figures]
    for one, other in zip(split.figures, shared.figures, strict=True):
        panels = [{note["text"] for note in figure.spec["layout"]["annotations"]} for figure in (one, other)]
        assert panels[0] == panels[1]
        assert "<b>hpa</b>" in panels[0]
    assert split.tables[0].caption == shared.tables[0].caption
    added = "hpa: the pools for interactive and for batch requests are added up, needs rounded up in each."
    assert added in split.notes
    assert added not in shared.notes


def test_a_need_rounded_up_twice_makes_no_pool_busier():
    """chat/us needs three whoever serves it, code/eu one where it is shared."""
    rows = pl.DataFrame(
        {
            "pool": ["chat/us", "chat/us", "code/eu", "code/eu"], "policy": ["hpa", "siloed"] * 2,
            "needed": [3.0, 3.0, 1.0, 4.0], "provisioned": [3.0, 3.0, 1.0, 4.0],
        }
    )  # fmt: skip
    assert capacity.busiest(rows) == ["chat/us", "code/eu"]


def test_what_is_added_up_is_what_there_was():
    result = evaluation()
    rows = capacity.joined(parted(result, "hpa").timeline)
    keys = ["policy", "service", "region", "start_s"]
    assert set(rows["lane"]) == {"shared"}
    both = rows.sort(keys).join(result.timeline.sort(keys), on=keys, nulls_equal=True)
    assert both.height == result.timeline.height
    assert (both["provisioned"] - both["provisioned_right"]).abs().max() < 1e-9
    assert capacity.joined(result.timeline).equals(result.timeline)
