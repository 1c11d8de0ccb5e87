"""Laws of the synthetic trace: reproducible bytes; the spec's rates, rhythm, lengths and tenants are drawn."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.analysis import synth as module
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.synth import SynthSpec, synth
from lmaas.analysis.synth_draw import draw
from lmaas.analysis.trace import SCHEMA, TIERS

SAMPLE = Path(__file__).parent.parent / "sample_traces"


def spec(service=None, **over) -> SynthSpec:
    base = {
        "name": "m",
        "requests_per_s": 0.5,
        "regions": {"here": 1.0},
        "tiers": [{"name": "interactive-fast", "share": 1.0}],
        "input": {"median": 1000.0, "sigma": 0.5},
        "output": {"median": 200.0, "sigma": 0.7},
    }
    content = {
        "seed": 1,
        "epoch": "2026-11-02T00:00:00Z",
        "days": 1.0,
        "regions": [{"name": "here"}],
        "services": [base | (service or {})],
    } | over
    # strict models take no text for an instant from Python, but do from JSON
    return SynthSpec.model_validate_json(json.dumps(content))


def hourly(table: pl.DataFrame) -> np.ndarray:
    return np.bincount((table["arrival_s"].to_numpy() // 3600).astype(int))


def test_same_spec_same_bytes_and_another_seed_differs(tmp_path):
    one, two, other = (synth(spec(seed=s), tmp_path / f"{i}.parquet") for i, s in enumerate((1, 1, 2)))
    assert one.read_bytes() == two.read_bytes()
    assert not pl.read_parquet(one).equals(pl.read_parquet(other))
    assert not list(tmp_path.glob(".*")), "a partial file was left behind"


def test_table_is_canonical(tmp_path):
    table = pl.read_parquet(synth(spec(), tmp_path / "t.parquet"))
    assert set(table.columns) <= set(SCHEMA)
    assert table["arrival_s"].is_sorted() and table["arrival_s"].max() <= 86_400
    assert table["arrival_s"].round(3).equals(table["arrival_s"])
    assert table["input_tokens"].dtype == table["output_tokens"].dtype == pl.UInt32
    assert table.null_count().sum_horizontal().item() == 0
    assert pl.read_parquet_metadata(tmp_path / "t.parquet")["lmaas.epoch"] == "2026-11-02T00:00:00+00:00"


def test_plain_arrivals_are_poisson():
    # 2 days at 0.5/s: 1,440 two-minute counts; the index of dispersion has a standard error of sqrt(2/1440)
    counts = np.bincount((draw(spec(days=2.0))["arrival_s"].to_numpy() // 120).astype(int), minlength=1440)
    assert counts.sum() == pytest.approx(86_400, abs=5 * math.sqrt(86_400))
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=5 * math.sqrt(2 / 1440))


@pytest.mark.parametrize("part", [{"noise": {"sigma": 0.4}}, {"bursts": {"per_day": 20.0, "factor": 4.0}}])
def test_noise_and_bursts_make_arrivals_overdispersed(part):
    counts = np.bincount((draw(spec(part))["arrival_s"].to_numpy() // 600).astype(int), minlength=144)
    assert counts.var() / counts.mean() > 3


@pytest.mark.parametrize("offset", [-5.0, 0.0, 5.5])
def test_daily_rhythm_peaks_at_the_local_hour(offset):
    rhythm = {"peak_to_trough": 9.0, "peak_hour": 15.0}
    table = draw(
        spec(
            {"rhythm": rhythm, "requests_per_s": 2.0},
            days=3.0,
            regions=[{"name": "here", "utc_offset_h": offset}],
        )
    )
    phase = 2 * np.pi * (table["arrival_s"].to_numpy() / 3600 + offset) / 24
    peak = np.angle(np.exp(1j * phase).mean()) % (2 * np.pi) * 24 / (2 * np.pi)
    assert peak == pytest.approx(15.0, abs=0.2)
    local_hour = ((table["arrival_s"].to_numpy() / 3600 + offset) % 24).astype(int)
    counts = np.bincount(local_hour, minlength=24)
    assert counts.max() / counts.min() == pytest.approx(9.0, rel=0.15)
    assert len(table) == pytest.approx(2.0 * 3 * 86_400, rel=0.01)  # the rhythm's mean is 1


def test_weekend_factor_and_drift():
    days = np.add.reduceat(hourly(draw(spec({"rhythm": {"weekend": 0.25}}, days=7.0))), range(0, 168, 24))
    assert days[5:].mean() / days[:5].mean() == pytest.approx(0.25, rel=0.05)
    table = draw(spec({"drift": {"requests": 0.2, "input": 0.1}}, days=6.0))
    by_day = table.group_by((pl.col("arrival_s") // 86_400).alias("day")).agg(pl.len(), pl.col("input_tokens").median())
    first, last = by_day.sort("day").rows()[0], by_day.sort("day").rows()[-1]
    assert last[1] / first[1] == pytest.approx(1.2**5, rel=0.05)
    assert last[2] / first[2] == pytest.approx(1.1**5, rel=0.05)


@settings(max_examples=15, deadline=None)
@given(
    median=st.floats(50, 5000),
    sigma=st.floats(0.1, 1.0),
    correlation=st.floats(-0.9, 0.9),
    seed=st.integers(0, 99),
)
def test_length_quantiles_and_correlation_match_the_spec(median, sigma, correlation, seed):
    table = draw(
        spec(
            {
                "input": {"median": median, "sigma": sigma},
                "output": {"median": 300.0, "sigma": 0.5},
                "correlation": correlation,
            },
            seed=seed,
        )
    )
    z90 = 1.2816
    assert table["input_tokens"].median() == pytest.approx(median, rel=0.05)
    assert table["input_tokens"].quantile(0.9) == pytest.approx(median * math.exp(z90 * sigma), rel=0.08)
    logs = np.log(table.select("input_tokens", "output_tokens").to_numpy())
    assert np.corrcoef(logs.T)[0, 1] == pytest.approx(correlation, abs=0.05)


def test_tiers_have_their_own_scale_and_limit():
    tiers = [
        {"name": "interactive-fast", "share": 3.0, "input_scale": 0.1, "input_max": 150},
        {"name": "batch", "share": 1.0},
    ]
    table = draw(spec({"tiers": tiers}))
    got = {t: table.filter(tier=t) for t in TIERS}
    assert len(got["interactive-fast"]) / len(table) == pytest.approx(0.75, abs=0.02)
    assert got["interactive-fast"]["input_tokens"].median() == pytest.approx(100, rel=0.05)
    assert got["interactive-fast"]["input_tokens"].max() == 150
    assert got["batch"]["input_tokens"].median() == pytest.approx(1000, rel=0.05)


def test_tenants_are_skewed_and_keep_the_median():
    tenants = {"count": 20, "skew": 1.0, "output_sigma": 0.6}
    table = draw(spec({"tenants": tenants}, days=2.0))
    shares = table["tenant"].value_counts(normalize=True)["proportion"].sort(descending=True)
    assert shares[0] == pytest.approx(1 / sum(1 / i for i in range(1, 21)), rel=0.05)  # Zipf
    log_output = pl.col("output_tokens").log()
    assert math.exp(table.select(log_output.mean()).item()) == pytest.approx(200, rel=0.05)
    within = table.select((log_output - log_output.mean().over("tenant")).var()).item()
    total = table.select(log_output.var()).item()
    assert 0.1 < 1 - within / total < 0.7, "the tenant explains something of the answer's length, never most"


def test_a_tenant_has_a_home():
    regions = {"here": 1.0, "there": 1.0}
    places = [{"name": "here"}, {"name": "there"}]
    table = draw(spec({"regions": regions, "tenants": {"count": 50, "skew": 0.0, "home": 0.9}}, regions=places))
    largest = table.group_by("tenant", "region").len().group_by("tenant").agg(pl.col("len").max() / pl.col("len").sum())
    assert largest["len"].mean() == pytest.approx(0.9, abs=0.03)


def test_another_service_leaves_the_rows_of_the_first():
    one = spec()
    two = one.model_copy(update={"services": [one.services[0].model_copy(update={"name": "n"}), one.services[0]]})
    assert draw(two).filter(service="m").equals(draw(one))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("days = -1.0", "days"),
        ("days = nan", "days"),
        ('days = "4"', "days"),
        ("epoch = 2026-11-02", "epoch"),
        ("wave = 3", "wave"),
        ("days = 3000.0", "rows expected"),
        ("days = 1e30", "days"),
        ("[[regions]]\nname = 'us-east'", "given twice"),
        ("[[services]]\nname = 'x'", "requests_per_s"),
        ("days = ", "not a TOML file"),
    ],
)
def test_nonsense_is_refused_by_name(tmp_path, change, said):
    key = change.split(" =")[0]
    lines = (SAMPLE / "sample.toml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(f"{key} =")]
    path = tmp_path / "bad.toml"
    path.write_text("\n".join([*kept, change] if change.startswith("[[") else [change, *kept]))
    with pytest.raises(UserError, match=said) as caught:
        SynthSpec.load(path)
    assert caught.value.code == Exit.CONFIG and str(path) in str(caught.value)


def test_unreadable_or_useless_specs_end_in_a_message(tmp_path, capsys):
    assert module.main([str(tmp_path / "none.toml"), "x"]) == Exit.CONFIG
    assert module.main([str(tmp_path), "x"]) == Exit.CONFIG
    assert module.main([]) == Exit.USAGE
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(UserError, match="drew no request"):
        synth(spec({"requests_per_s": 1e-9}), tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="cannot write"):
        synth(spec(), tmp_path / "no such folder" / "t.parquet")


def test_the_bundled_sample_is_what_its_spec_draws(tmp_path):
    made = pl.read_parquet(synth(SynthSpec.load(SAMPLE / "sample.toml"), tmp_path / "sample.parquet"))
    shipped = pl.read_parquet(SAMPLE / "sample.parquet")
    # rows, not bytes: another version of polars may compress differently, and another numpy may draw differently
    if pl.read_parquet_metadata(SAMPLE / "sample.parquet")["lmaas.synth.numpy"] == np.__version__:
        assert made.equals(shipped)
    assert made.schema == shipped.schema
    assert len(made) == pytest.approx(len(shipped), rel=0.05)
    assert (SAMPLE / "sample.parquet").stat().st_size <= 4_000_000
    assert shipped["tier"].n_unique() == shipped["region"].n_unique() == shipped["service"].n_unique() == 3
    fast = shipped.filter(tier="interactive-fast")
    assert fast["input_tokens"].max() <= 8_000
