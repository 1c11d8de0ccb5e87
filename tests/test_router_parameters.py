"""Parameters of every router: what they may be, and the words for what they may not."""

import re
import shutil

import numpy as np
import pytest
from conftest import ROOT

from lmaas.analysis.errors import Exit, UserError
from lmaas.cli.main import main
from lmaas.replay.routernames import find_router
from lmaas.replay.routers import FARTHEST, ROUTERS, SEED, SHORTEST_S, Range, Router

FIXTURES = ROOT / "tests" / "fixtures"
PARAMETERS = [(name, parameter) for name in ROUTERS.builtin for parameter in find_router(name).params]
POSITIVE, SHARE = Range(above=True), Range(0, 1)
MAY_BE = {
    ("random", "seed"): SEED,
    ("power-of-two", "seed"): SEED,
    ("prefix-aware", "spread"): Range(),
    ("prefix-aware", "sigmas"): Range(),
    ("scored", "prefix"): Range(),
    ("scored", "queue"): Range(),
    ("scored", "kv"): Range(),
    ("scored", "queue_over"): Range(),
    ("scored", "kv_over"): SHARE,
    ("preserve", "kappa"): Range(),
    ("preserve-anticipated", "kappa"): Range(),
    ("preserve-anticipated", "lookahead"): Range(1, FARTHEST, whole=True),
    ("aladdin", "ttft_s"): POSITIVE,
    ("aladdin", "atgt_s"): POSITIVE,
    ("aladdin", "theta_ttft"): POSITIVE,
    ("aladdin", "theta_atgt"): POSITIVE,
    ("aladdin", "gamma"): SHARE,
    ("aladdin", "heartbeat_s"): Range(),
    ("aladdin", "refusals"): Range(0, 1_000_000_000, whole=True),
    ("aladdin", "no_harm"): Range(0, 1, whole=True),
}


def refusal(text):
    with pytest.raises(UserError) as caught:
        find_router(text)
    assert caught.value.code == Exit.USAGE
    return str(caught.value)


def test_every_parameter_of_every_router_has_a_row_here():
    tables = {("weighted", "weights"), *(("weighted-least", t) for t in ("weights", "rates")), ("aladdin", "limits")}
    assert set(PARAMETERS) == {*MAY_BE, *tables}


@pytest.mark.parametrize(("name", "parameter"), MAY_BE, ids=lambda part: part)
def test_what_a_parameter_may_be(name, parameter):
    """Both ends and the default are taken, and what lies beyond is refused by name, with what would work."""
    allowed = MAY_BE[name, parameter]
    inside = [1e-9 if allowed.above else allowed.low, 1.0, allowed.high if np.isfinite(allowed.high) else 1e9]
    for value in inside:
        router = find_router(f"{name}({parameter}={value!r})")
        assert router.params[parameter] == value
    outside = [-1e-9, -1.0, -(10.0**300)]
    outside += [0.0] if allowed.above or allowed.low > 0 else []
    outside += [allowed.high + 1] if np.isfinite(allowed.high) else []
    outside += [1.5, 1e-9] if allowed.whole else []
    for value in outside:
        said = refusal(f"{name}({parameter}={value!r})")
        assert f": {parameter} is " in said, said
        assert f"must be {allowed}" in said, said


@pytest.mark.parametrize("value", ["'x'", "True", "None", "[[1]]", "1e999", "1" + 400 * "0"])
@pytest.mark.parametrize(("name", "parameter"), MAY_BE, ids=lambda part: part)
def test_what_is_no_number(name, parameter, value):
    assert f"{parameter}=" in refusal(f"{name}({parameter}={value})")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("random(seed=1.5)", "seed is 1.5; it must be a whole number from 0 to 4,294,967,295"),
        ("random(seed=-1)", "seed is -1; it must be a whole number from 0"),
        ("preserve-anticipated(lookahead=0)", "lookahead is 0; it must be a whole number from 1 to 10,000"),
        ("aladdin(heartbeat_s=1e-6)", f"heartbeat_s is 1e-06; seconds from {SHORTEST_S:g}, or 0 for no heartbeat"),
        ("aladdin(ttft_s=0)", "ttft_s is 0; it must be a number above 0"),
        ("aladdin(gamma=2)", "gamma is 2; it must be a number from 0 to 1"),
        ("scored(prefix=0, queue=0, kv=0)", "prefix, queue and kv are all 0; one of these weights"),
        ("weighted(weights=[[0]])", "weights is [[0.0]]; shares of which one at least is above 0"),
        ("weighted(weights=[[0, 0], [0, 0]])", "one at least is above 0"),
        ("weighted(weights=[[1, -2]])", "weights is [[1.0, -2.0]]; it must be a number from 0 to 1,000,000,000"),
        ("weighted(weights=[[1e300]])", "from 0 to 1,000,000,000"),
        ("weighted(weights=[])", "no table"),
        ("weighted(weights=[[]])", "no table"),
        ("weighted(weights=[['a']])", "no number"),
    ],
)  # fmt: skip
def test_the_words(text, says):
    assert says in refusal(text)


def test_weights_some_of_which_are_zero_stand():
    assert find_router("weighted(weights=[[0, 0], [0, 1]])").numbers == [2, 2, 0, 0, 0, 1]
    assert find_router("scored(prefix=0, queue=0, kv=0.1)").params["kv"] == 0.1


def test_the_command_ends_with_2_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    line = ["evaluate", "--policy", "hpa", "--router"]
    assert main([*line, "random(seed=1.5)"]) == Exit.USAGE
    assert "seed is 1.5" in capsys.readouterr().err
    assert main(["evaluate", "--policy", "hpa(router='preserve(kappa=-1)')"]) == Exit.USAGE
    assert "kappa is -1; it must be a number from 0" in capsys.readouterr().err
    assert not list(tmp_path.glob("home/runs/*"))


# --- a user's own ---


def test_a_users_router_says_what_its_parameters_may_be():
    route = find_router("least-requests").route
    made = {"params": {"short": 1000.0, "shares": [[1.0, 2.0]]}, "ranges": {"short": Range(1), "shares": Range()}}
    assert Router(route, **made).numbers == [1000, 1, 2, 1, 2]
    for wrong, says in (
        ({"short": 0.5, "shares": [[1.0]]}, "short is 0.5"),
        ({"shares": [[-1.0]]}, "shares is [[-1.0]]"),
    ):
        with pytest.raises(ValueError, match=re.escape(says)):
            Router(route, **{**made, "params": wrong})


def test_parameters_with_a_meaning_of_their_own_are_named():
    route = find_router("least-requests").route
    for field, name, wrong in (("ahead", "far", 1.5), ("ahead", "far", -1.0), ("heartbeat_s", "beat", 1e-4)):
        with pytest.raises(ValueError, match=f"{name} is {wrong:g}; "):
            Router(route, params={name: wrong}, **{field: name})
    with pytest.raises(ValueError, match=r"seed is 0.5; it must be a whole number"):
        Router(route, params={"seed": 0.5})


@pytest.mark.parametrize("also", ["", "from lmaas.replay.routing.steps import draw, mix\n"])
def test_a_name_that_is_missing_is_told_with_routers_first(tmp_path, also):
    """Not functions that merely help a router."""
    text = (FIXTURES / "my_router.py").read_text()
    (tmp_path / "own.py").write_text(text.replace('"""\n\n', '"""\n\n' + also, 1))
    with pytest.raises(UserError) as caught:
        find_router(f"{tmp_path}/own.py:missing")
    assert caught.value.code == Exit.CONFIG
    assert "no router named 'missing'; it has ROUTER, short_first: write own.py:ROUTER" in str(caught.value)
    shutil.copy(FIXTURES / "deep_router.py", tmp_path / "deep.py")
    with pytest.raises(UserError, match=r"it has DEEP, deep: write deep.py:DEEP"):
        find_router(f"{tmp_path}/deep.py:ROUTER")
