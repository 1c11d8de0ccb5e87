"""Profiles shown, and estimated where nobody measured: the roofline against the shipped ones."""

import json

import numpy as np
import pytest
from conftest import ROOT

from lmaas.analysis.errors import Exit, UserError
from lmaas.cli.main import main
from lmaas.replay.estimating.estimate import bands, efficiencies, estimate
from lmaas.replay.estimating.facts import gpus, models
from lmaas.replay.estimating.judged import estimated_s, fitted, measured_s, shape_of, steps, trusted
from lmaas.replay.profile import find_profile, shipped
from lmaas.replay.profilefile import write_profile
from lmaas.reports.profiles import derived

KNOWN = trusted(list(shipped().values()))


def off(profile, eff):
    at = steps()
    return np.abs(estimated_s(shape_of(profile), at, eff) / measured_s(profile, at) - 1)


def test_the_stored_error_is_what_leaving_out_measures():
    """One GPU's profiles, predicted by a fit that has not seen it, lie within the error that is printed."""
    eff = fitted([p for p in KNOWN if p.gpu != "L40S-48GB"])
    held_out = [float(off(p, eff).mean()) for p in KNOWN if p.gpu == "L40S-48GB"]
    (band,) = (b for b in bands() if (b.unseen, b.kind) == ("gpu", "dense"))
    assert np.median(held_out) == pytest.approx(0.0584, abs=0.003)  # docs/profiles.md's row
    assert band.profiles == sum(not shape_of(p).model.experts for p in KNOWN)
    assert np.median(held_out) < band.mape < 0.15


def test_the_stored_efficiencies_are_those_of_all_shipped_profiles():
    again = fitted(KNOWN)
    assert again.vector() == pytest.approx(efficiencies().vector(), abs=0.01)


def test_an_estimate_says_what_its_roofline_says():
    """The piecewise-linear profile against the formula itself, at the knots and with attention."""
    profile = estimate("qwen3-32b", "h100", tp=2)
    at = steps()
    assert measured_s(profile, at) == pytest.approx(estimated_s(shape_of(profile), at, efficiencies()), rel=0.02)
    assert (profile.provenance, profile.gpus_per_replica) == ("estimated", 2)


def test_kv_capacity_is_that_of_the_shipped_profiles():
    ratios = [
        estimate(p.model, p.gpu, p.tp, dtype=p.dtype).kv_tokens / p.kv_tokens
        for p in KNOWN
        if not shape_of(p).model.experts
    ]
    assert max(abs(np.log(ratios))) < 0.1


@pytest.mark.parametrize("model", sorted(models()))
def test_every_model_can_be_estimated_on_every_gpu(model):
    """Enough GPUs given; more of them never make a step slower by its weights, and the profile is a valid one."""
    for gpu in gpus():
        tp = 8 if models()[model].parameters > 3e10 else 2
        profile = estimate(model, gpu, tp, pp=2 if models()[model].parameters < 1e11 else 8, dtype="fp8")
        assert profile.kv_tokens > 1000
        assert profile.error is not None and 0.05 < profile.error["mape"] < 0.5


def test_pipeline_stages_share_what_depends_on_tokens():
    one, two = (estimate("llama-2-13b", "a100", pp=pp) for pp in (1, 2))
    assert two.latency.base == pytest.approx(one.latency.base, rel=0.01)
    assert two.latency.decode_kv == pytest.approx(one.latency.decode_kv / 2)
    assert two.latency.token_s(8192)[8192] < 0.6 * one.latency.token_s(8192)[8192]
    assert "pipeline" in (two.source or "")


@pytest.mark.parametrize(
    ("asked", "code", "says"),
    [
        (("lama-3.1-70b", "h100"), Exit.USAGE, "did you mean 'llama-3.1-70b'"),
        (("llama-3.1-70b", "h999"), Exit.USAGE, "no GPU 'h999'"),
        (("llama-3.1-70b", "l4"), Exit.CONFIG, "needs more than"),
        (("llama-3.1-8b", "h100", 0), Exit.USAGE, "at least 1"),
        (("llama-3.1-8b", "h100", 64), Exit.CONFIG, "32 heads"),
        (("llama-3.1-8b", "h100", 1, 1, "fp3"), Exit.USAGE, "no dtype 'fp3'"),
    ],
)
def test_what_cannot_be_estimated_says_why(asked, code, says):
    with pytest.raises(UserError, match=says) as error:
        estimate(*asked)
    assert error.value.code == code


def test_a_written_profile_reads_back_the_same(tmp_path):
    profile = estimate("mixtral-8x7b", "h200")
    write_profile(profile, tmp_path / "p.json")
    assert find_profile(str(tmp_path / "p.json")) == profile
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_derived_figures_are_those_of_the_replay_formula():
    profile = find_profile("llama-3.1-8b/h100/tp1")
    rows = dict(derived(profile).select("name", "value").iter_rows())
    ttft, e2e = profile.alone_s(np.array([2047]), np.array([2]))
    assert rows["decode_1_s"] == pytest.approx(float(e2e[0] - ttft[0]))
    assert rows["kv_requests"] == profile.kv_tokens // 2048


def test_show_and_estimate_print_the_same_profile(tmp_path, capsys, home):
    out = str(tmp_path / "p.json")
    assert main(["profile", "estimate", "--model", "llama-2-70b", "--gpu", "a40", "--tp", "8", "--out", out]) == 0
    printed, said = capsys.readouterr()
    assert "9.15" in printed and "PCIe" in printed and out in said
    assert main(["profile", "show", out]) == 0
    assert capsys.readouterr().out == printed
    assert main(["profile", "show", out, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profile"]["provenance"] == "estimated"
    assert found["derived"]["decode_32_s"] > found["derived"]["decode_1_s"] > 0
    assert main(["profile", "show", "nothing-like-it"]) == Exit.USAGE


def test_every_printed_error_stands_in_the_docs():
    text = (ROOT / "docs" / "profiles.md").read_text()
    for band in bands():
        assert f"{100 * band.mape:.1f} %" in text and f"{100 * band.p95:.0f} %" in text
