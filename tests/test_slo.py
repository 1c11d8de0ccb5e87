"""The SLO and gate grammars, and which limits a request must meet."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.analysis.errors import UserError
from lmaas.analysis.units import parse_duration
from lmaas.policies.gates import check_services, parse_gates, percentile_test
from lmaas.replay.slo import Thresholds, parse_slos, thresholds


def test_one_text_many_tests():
    fast, gate, scoped = parse_slos(["ttft<1s, tpot_p99<=50ms; e2e < 30s @ service=llama-70b, tier=batch"])
    assert (fast.metric, fast.limit_s, fast.percentile, fast.scope) == ("ttft", 1.0, None, {})
    assert (gate.metric, gate.limit_s, gate.percentile) == ("tpot", 0.05, 99.0)
    assert (scoped.limit_s, scoped.scope) == (30.0, {"service": "llama-70b", "tier": "batch"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ttft_p95<500", "has no unit; write ttft_p95<500ms"),
        ("ttft_p95=500", "write ttft_p95<500ms"),
        ("ttft_p95=500ms", "write ttft_p95<500ms or"),
        ("latency<1s", "no metric 'latency'"),
        ("ttft_p0<1s", "percentile 0"),
        ("ttft<1parsec", "not a duration"),
        ("ttft<-1s", "not above 0"),
        ("ttft<1s @ tier=gold", "no tier 'gold'"),
        ("ttft<1s @ region=eu", "not service=NAME or tier=NAME"),
        ("ttft<1s @", "ends after '@'"),
        ("ttft<1s,,tpot<1s", "empty test"),
        ("", "empty test"),
    ],
)
def test_what_is_wrong_is_said(text, says):
    with pytest.raises(UserError, match="(?s)" + __import__("re").escape(says)) as error:
        parse_slos([text])
    assert error.value.code == 2


@given(st.text(max_size=40))
def test_any_text_parses_or_is_refused(text):
    try:
        slos = parse_slos([text])
    except UserError:
        return
    assert parse_slos([str(slo) for slo in slos]) == slos  # and prints as it reads


def test_tier_defaults_stand_until_a_slo_covers_them():
    assert thresholds((), "s", "interactive-fast") == Thresholds(ttft_s=1.0, tpot_s=0.1)
    assert thresholds((), "s", "batch") == Thresholds(e2e_s=86400.0)
    slos = parse_slos(["ttft<500ms @ tier=interactive-fast"])
    assert thresholds(slos, "s", "interactive-fast") == Thresholds(ttft_s=0.5)
    assert thresholds(slos, "s", "interactive-normal") == Thresholds(ttft_s=10.0, tpot_s=0.2)


def test_the_narrowest_scope_wins():
    slos = parse_slos(["ttft<1s @ service=a,tier=batch; ttft<2s @ service=a; ttft<3s"])
    assert thresholds(slos, "a", "batch").ttft_s == 1.0
    assert thresholds(slos, "a", "interactive-fast").ttft_s == 2.0
    assert thresholds(slos, "b", "batch").ttft_s == 3.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("1.5s", 1.5), ("10m", 600), ("24h", 86400), ("3d", 259200)]
)
def test_durations(text, seconds):
    assert parse_duration(text, "x") == seconds


def test_gates():
    attain, hours, ttft = parse_gates(["attain>=.99, gpu_hours<=10", "ttft_p95<500ms"])
    scores = {"slo_attainment": 0.985, "gpu_hours_provisioned": 9.0, "ttft_p95_s": None}
    assert attain.check(scores) == (0.985, False)
    assert hours.check(scores) == (9.0, True)
    assert ttft.check(scores) == (None, False)  # what was not measured does not pass
    assert ttft.threshold == 0.5
    assert parse_gates(["attain>=99%"])[0].threshold == 0.99
    for text in ("attain", "speed>1", "attain>=much", "ttft_p95<500", "attain==1", "attain>=99", "cost<nan"):
        with pytest.raises(UserError):
            parse_gates([text])


def test_a_gate_may_have_a_scope():
    rows = pl.DataFrame(
        {
            "scored_tier": ["batch"] * 3 + ["interactive-fast"],
            "service": ["a", "a", "b", "b"],
            "ttft_s": [1.0, 2.0, 3.0, None],
            "attained": [True, True, False, False],
        }
    )
    fast, late, share, whole = parse_gates(
        ["ttft_p50<2s @ tier=batch, service=a; ttft_p99.5<4s, attain>=50% @ service=b; attain>=0.6"]
    )
    assert fast.check({}, rows) == (1.5, True)
    assert late.check({}, rows) == (3.0, True)
    assert share.check({"slo_attainment": 0.9}, rows) == (0.0, False)
    assert whole.check({"slo_attainment": 0.9}, rows) == (0.9, True)
    assert [gate.text for gate in (fast, share)] == ["ttft_p50<2s @ tier=batch, service=a", "attain>=50% @ service=b"]
    (nobody,) = parse_gates(["ttft_p50<2s @ tier=interactive-fast"])
    assert nobody.check({}, rows) == (None, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft_p59<1", "no unit"),
        ("slo_atainment>=0.99", "did you mean 'slo_attainment'"),
        ("ttft95<1s", "did you mean 'ttft_p95'"),
        ("gpuhours<4", "did you mean 'gpu_hours'"),
        ("gpu_hours<4 @ service=a", "of the whole fleet"),
        ("attain>=0.9 @ tear=a", "service=NAME or tier=NAME"),
        ("attain>=0.9 @ tier=slow", "no tier 'slow'"),
        ("attain>=0.9 @", "ends after '@'"),
        ("ttft_p95<1s @ tier=batch, attain>=0.9", "follows a ';'"),
        ("ttft_p100<1s", "outside 0 to 100"),
        ("attain>=0.9,", "is not SCORE OP VALUE"),
    ],
)
def test_what_is_wrong_with_a_gate_is_said(text, said):
    with pytest.raises(UserError, match=said) as error:
        parse_gates([text])
    assert error.value.code == 2


def test_gates_name_services_that_are_there():
    gates = parse_gates(["attain>=0.9 @ service=chat"])
    check_services(gates, {"chat", "code"})
    with pytest.raises(UserError, match="did you mean 'chat-8b'"):
        check_services(gates, {"chat-8b", "code"})


def test_percentile_of_a_scope():
    rows = pl.DataFrame(
        {"scored_tier": ["batch"] * 3 + ["interactive-fast"], "service": ["a"] * 4, "ttft_s": [1.0, 2.0, 3.0, 9.0]}
    )
    (slo,) = parse_slos(["ttft_p50<2500ms @ tier=batch"])
    assert percentile_test(slo, rows) == (2.0, True)
    (slo,) = parse_slos(["ttft_p50<2s @ tier=batch"])
    assert percentile_test(slo, rows) == (2.0, False)
    (slo,) = parse_slos(["ttft_p50<2s @ service=b"])
    assert percentile_test(slo, rows) == (None, False)
