"""Request types: planted clusters are found and stay, one cloud is one type, names and shares say what they are."""

import numpy as np
import polars as pl
import pytest
from spatial_data import clouds, requests, summary_of

from lmaas.analysis.workload import types
from lmaas.analysis.workload.mixture import fit

CENTRES = ((150, 150), (8000, 60), (3000, 1100), (250, 8))


def joint_of(inputs, outputs, **more):
    summary = summary_of(requests(inputs, outputs, **more))
    return summary.states["joint"], summary.keys.joint_s


@pytest.mark.parametrize("kinds", [2, 3, 4])
@pytest.mark.parametrize("spread", [0.4, 0.6])
def test_planted_clusters_are_found(kinds, spread):
    shares = np.arange(kinds, 0, -1) / (kinds * (kinds + 1) / 2)
    inputs, outputs, which = clouds(CENTRES[:kinds], shares, 20_000, spread)
    joint, joint_s = joint_of(inputs, outputs)
    found = types.learn(joint)
    assert len(found.names) == kinds
    table = types.tables(joint, joint_s, found)["types"]
    planted = sorted(range(kinds), key=lambda k: np.prod(CENTRES[k]))
    for row, k in zip(table.iter_rows(named=True), planted, strict=True):
        assert (row["input_centre"], row["output_centre"]) == pytest.approx(CENTRES[k], rel=0.1)
        assert row["request_share"] == pytest.approx((which == k).mean(), abs=0.03)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_one_cloud_is_one_type(seed, correlation):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 10_000))
    b = correlation * a + np.sqrt(1 - correlation**2) * b
    joint, joint_s = joint_of(np.exp(6 + 1.4 * a), np.exp(5 + 0.7 * b))
    found = types.learn(joint)
    assert found.names == ("one type",)
    assert types.tables(joint, joint_s, found)["types"]["request_share"].to_list() == [1.0]


def test_types_stay_when_a_few_rows_are_added_and_whatever_the_seed():
    inputs, outputs, _ = clouds(CENTRES, (0.3, 0.3, 0.2, 0.2), 20_000)
    before = types.learn(joint_of(inputs, outputs)[0])
    rng = np.random.default_rng(9)
    grown = [np.concatenate((x, rng.choice(x, 40))) for x in (inputs, outputs)]
    after = types.learn(joint_of(*grown)[0])
    assert after.names == before.names
    assert after.mixture.centres == pytest.approx(before.mixture.centres, abs=0.05)
    seeded = types.learn(joint_of(inputs, outputs)[0], seed=5)
    assert seeded.names == before.names
    assert seeded.mixture.centres == pytest.approx(before.mixture.centres, abs=0.01)
    again = types.learn(joint_of(inputs, outputs)[0])
    assert (again.mixture.centres == before.mixture.centres).all()


def test_names_say_where_a_type_lies_beside_the_medians():
    centres = np.log2([[100, 20], [100, 400], [1000, 20], [1400, 90], [9000, 900], [20000, 1000]])
    assert types.names(centres, np.log2([1000, 100])) == (
        "short in, short out",
        "short in, long out",
        "medium in, short out",
        "typical",
        "long in, long out (9,000 → 900)",
        "long in, long out (20,000 → 1,000)",
    )


def test_types_are_learnt_on_the_first_half_only():
    inputs, outputs, _ = clouds(CENTRES[:2], (0.5, 0.5), 8000)
    late_in, late_out, _ = clouds(((30, 4000),), (1.0,), 8000)
    early = requests(inputs, outputs, span_s=3600.0)
    late = requests(late_in, late_out, span_s=3600.0).with_columns(pl.col("arrival_s") + 3600)
    summary = summary_of(pl.concat([early, late]))
    joint = summary.states["joint"]
    found = types.learn(joint)
    assert len(found.names) == 2 and found.fitted_share == pytest.approx(0.5, abs=0.02)
    everything = types.learn(joint, part=1.0)
    assert len(everything.names) == 3 and everything.fitted_share == 1.0
    # what came later has a type all the same: that of the nearest centre
    mix = types.tables(joint, summary.keys.joint_s, found)["type_mix"]
    assert mix["requests"].sum() == 16_000
    assert mix.group_by("start_s").agg(pl.col("request_share").sum())["request_share"].to_list() == pytest.approx(
        [1.0] * mix["start_s"].n_unique()
    )
    half = mix.filter(pl.col("start_s") >= 3600).group_by("type").agg(pl.col("requests").sum()).sort("type")
    assert half["requests"].max() == 8000


def test_shares_and_ranges_equal_those_of_the_rows():
    inputs, outputs, which = clouds(CENTRES[:2], (0.7, 0.3), 20_000, 0.3)
    inputs, outputs = np.rint(inputs), np.rint(outputs)
    joint, joint_s = joint_of(inputs, outputs)
    found = types.tables(joint, joint_s, types.learn(joint))
    for row, k in zip(found["types"].iter_rows(named=True), (0, 1), strict=True):
        mine = which == k
        kv = inputs * outputs + outputs**2 / 2
        work = inputs + 2e-5 * inputs**2
        for column, values in (
            ("request_share", np.ones(20_000)),
            ("input_share", inputs),
            ("output_share", outputs),
            ("prefill_share", work),
            ("kv_share", kv),
        ):
            assert row[column] == pytest.approx(values[mine].sum() / values.sum(), rel=0.02), column
        for side, values in (("input", inputs), ("output", outputs)):
            assert row[f"{side}_p10"] == pytest.approx(np.percentile(values[mine], 10), rel=0.1)
            assert row[f"{side}_p90"] == pytest.approx(np.percentile(values[mine], 90), rel=0.1)
    cells = found["length_cells"]
    assert cells["requests"].sum() == 20_000
    assert (cells["input_to"] / cells["input_from"]).to_list() == pytest.approx([2**0.25] * len(cells))
    for name, table in found.items():
        assert table.columns == list(types.COLUMNS[name])
    assert found["type_count"].filter("chosen")["types"].item() == 2


def test_few_rows_are_one_type_and_none_is_none():
    assert types.learn(joint_of([10.0], [5.0])[0]).names == ("one type",)
    assert types.learn(joint_of([10.0, 10_000.0] * 20, [5.0, 500.0] * 20)[0]).names == ("one type",)
    assert types.learn(joint_of(np.full(500, 10.0), np.full(500, 5.0))[0]).names == ("one type",)
    joint, joint_s = joint_of([10.0], [5.0])
    assert types.learn(joint.clear()) is None
    assert types.tables(joint.clear(), joint_s, None) == {}


def test_windows_are_put_together_without_losing_any():
    joint, joint_s = joint_of(np.full(5000, 10.0), np.full(5000, 5.0), span_s=50_000.0)
    wide, wide_s = types.wider(joint, joint_s)
    assert wide_s == 600.0 and wide["window"].n_unique() == 84
    assert wide["n"].sum() == 5000
    assert types.wider(joint.clear(), joint_s)[1] == joint_s


def test_a_mixture_does_not_depend_on_where_its_points_lie():
    rng = np.random.default_rng(2)
    points = np.concatenate((rng.normal(0, 0.5, (300, 2)), rng.normal(6, 0.5, (300, 2))))
    here, _ = fit(points, np.ones(600))
    there, _ = fit(points + 1000, np.ones(600))
    assert len(here.centres) == len(there.centres) == 2
    assert there.centres - 1000 == pytest.approx(here.centres, abs=1e-6)
    assert (here.nearest(points) == there.nearest(points + 1000)).all()
    # twice every point is the same picture
    twice, _ = fit(points, np.full(600, 2.0))
    assert twice.centres == pytest.approx(here.centres, abs=1e-6)


def test_the_sentence_names_the_type_that_holds_the_memory():
    inputs, outputs, _ = clouds(CENTRES[:2], (0.7, 0.3), 20_000, 0.3)
    joint, joint_s = joint_of(inputs, outputs)
    said = list(types.findings(types.tables(joint, joint_s, types.learn(joint)), None))
    assert len(said) == 1 and "2 types: 'long in, short out' (about 7," in said[0]
    assert list(types.findings({}, None)) == []


def test_the_sentence_is_not_that_most_requests_hold_most():
    inputs, outputs, _ = clouds([(6000, 400), (500, 20)], (0.85, 0.15), 20_000, 0.3)
    joint, joint_s = joint_of(inputs, outputs)
    (said,) = types.findings(types.tables(joint, joint_s, types.learn(joint)), None)
    assert "'short in, short out'" in said and "is 15% of the requests and holds under 1% of the KV memory" in said
