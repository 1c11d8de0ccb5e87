"""The policy of docs/replay.md that needs Python, run as it stands there, and the limits that the text tells."""

import re
import tomllib
from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest
from conftest import ROOT

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.registry import Registry
from lmaas.analysis.workspace import Workspace
from lmaas.policies import evaluate, registry
from lmaas.policies.registry import POLICIES, parse_policy
from lmaas.replay.columns import OK
from lmaas.replay.engine import Controller, Extension, Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Profile
from lmaas.replay.protocol import Actions, Policy, Seen

TEXT = (ROOT / "docs" / "replay.md").read_text()
(CODE,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(TOML,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
PROFILE = Profile.model_validate(
    {
        "name": "test/small", "kv_tokens": 12_000, "max_batch_tokens": 2048, "max_seqs": 8, "startup_s": 30.0,
        "latency": {"base": 0.02, "token_knots": [0], "token_slopes": [5e-4]},
    }
)  # fmt: skip


@pytest.fixture
def lend(tmp_path, monkeypatch):
    """The text's policy under the text's name."""
    ((name, where),) = tomllib.loads(TOML)["project"]["entry-points"][POLICIES.group].items()
    (tmp_path / f"{where.partition(':')[0]}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    more = Registry("policy", POLICIES.group, {**POLICIES.builtin, name: where}, POLICIES.listing)
    monkeypatch.setattr(registry, "POLICIES", more)
    return name


def test_the_texts_policy_lends_while_it_is_quiet(lend, tmp_path):
    rng = np.random.default_rng(0)
    arrival_s = np.concatenate([np.arange(0, 3600, 30.0), 1800 + np.sort(rng.uniform(0, 300, 600))])
    table = {"arrival_s": np.sort(arrival_s), "input_tokens": 400, "output_tokens": 100}
    pl.DataFrame(table).write_parquet(tmp_path / "trace.parquet")
    (tmp_path / "profile.json").write_text(PROFILE.model_dump_json())
    trace = open_trace(str(tmp_path / "trace.parquet"), Workspace.open(tmp_path / "ws"), say=lambda text: None)
    asked = [f"{lend}(low=1)", "static(replicas=3)"]
    found = evaluate(
        trace, asked, baselines=["none"], profile=str(tmp_path / "profile.json"), train_fraction=0.0, check=True
    )
    assert not found.failures
    lent, fixed = (found.scores.row(by_predicate=pl.col("policy") == name, named=True) for name in asked)
    assert lent["scale_actions"] > 2
    assert lent["gpu_hours_provisioned"] < 0.7 * fixed["gpu_hours_provisioned"]
    assert all((found.requests[name]["status"] == "ok").sum() == len(arrival_s) for name in asked)


def test_the_texts_policy_keeps_the_protocol(lend):
    policy = parse_policy(f"{lend}(low=1)").policy
    assert isinstance(policy, Policy)
    assert policy.low == 1


def test_the_text_names_every_action():
    rows = re.findall(r"^\| `(\w+)=", TEXT, re.MULTILINE)
    assert rows == [field.name for field in fields(Actions)]


# --- limits ---


def play(act, n=40, replicas=2, fleet=None, **more):
    """n requests, one a second; act(t, seen) at 5 s."""
    zeros = np.zeros(n, np.int64)
    requests = Requests(np.arange(float(n)), zeros, zeros + 50, zeros + 20, np.full(n, 20.0), zeros)
    once = Controller(lambda t: 5.0 if t < 5 else np.inf, act)
    replay = Replay(requests, fleet or Fleet((Pool("s", "r", PROFILE),)), [replicas], controller=once, **more)
    return replay.run(check=True)


def test_lent_time_is_in_the_spans():
    outcome = play(lambda t, seen: Actions(donate={0: 1}))
    states = outcome.spans.filter(pl.col("replica") == 1)["state"].to_list()
    assert states[-1] == "donated"


def test_what_is_not_there_is_passed_over():
    other = PROFILE.model_copy(update={"name": "test/other"})
    nothing = play(lambda t, seen: Actions())
    for actions in (Actions(reshape=[(0, 7, "test/other")]), Actions(migrate=[(39, 0, 1), (0, 0, 1)])):
        outcome = play(lambda t, seen, said=actions: said, profiles=[other])
        assert outcome.spans.equals(nothing.spans)
        assert np.array_equal(outcome.done_s, nothing.done_s)


def test_seen_is_by_pool():
    looks = []
    play(lambda t, seen: looks.append(seen) or Actions())
    (seen,) = looks
    arrays = [getattr(seen, field.name) for field in fields(Seen) if field.name not in ("t", "interval_s", "closer")]
    assert {array.shape for array in arrays} == {(1,)}


def test_weights_count_from_then_on():
    other = PROFILE.model_copy(update={"name": "test/other"})
    fleet = Fleet((Pool("s", "r", PROFILE, mixed=((other, 1),)),))
    outcome = play(
        lambda t, seen: Actions(weights=[[0, 1]]), replicas=1, fleet=fleet, router="weighted(weights=[[1, 0]])"
    )
    numbers = outcome.replicas.sort("record")["replica"].to_numpy()
    assert numbers[outcome.record].tolist() == [0] * 5 + [1] * 35  # a tick comes before an arrival of its instant


def test_two_give_way_to_one_of_another_profile():
    """Their requests end where they are; once both are off one starts on their four GPUs, and is active 3 s later."""
    wide = PROFILE.model_copy(update={"name": "test/wide", "gpu": "H100", "gpus_per_replica": 4})
    small = PROFILE.model_copy(update={"gpu": "H100", "gpus_per_replica": 2})
    fleet = Fleet((Pool("s", "r", small),), inventory={"r": {"H100": 4}})
    outcome = play(lambda t, seen: Actions(regroup=[(0, [0, 1], ["test/wide"], 3.0)]), fleet=fleet, profiles=[wide])
    spans = outcome.spans.filter(pl.col("replica") == 2).select("state", "from_s", "to_s").rows()
    off_s = max(outcome.spans.filter(pl.col("replica") < 2)["to_s"])
    assert [state for state, *_ in spans] == ["starting", "active"]
    assert spans[0][1:] == (off_s, off_s + 3.0)
    assert (outcome.status == OK).all()
    assert outcome.denied.sum() == 0


def test_replicas_of_one_profile_alone_come_and_go():
    """Two of its own and one other; asked for it the other way round, and a full pool lets none start."""
    other = PROFILE.model_copy(update={"name": "test/other"})
    asked = {(0, "test/other"): 2, (0, PROFILE.name): 1}

    def at_the_end(most):
        fleet = Fleet((Pool("s", "r", PROFILE, mixed=((other, 1),), maximum=most),))
        outcome = play(lambda t, seen: Actions(replicas_of=asked), replicas=2, fleet=fleet)
        numbers = dict(outcome.replicas.select("record", "profile").iter_rows())
        last = outcome.spans.filter((pl.col("to_s") == outcome.end_s) & (pl.col("state") == "active"))
        return sorted(outcome.profiles[numbers[record]].name for record in last["record"])

    assert at_the_end(3) == ["test/other", PROFILE.name]  # what was asked for first met a full pool
    assert at_the_end(4) == ["test/other", "test/other", PROFILE.name]


def test_replicas_that_are_to_follow_count_where_a_policy_scales():
    """Two of three give way to two others; who then asks for one has three of which two are to go, not one."""
    asked = {5.0: Actions(regroup=[(0, [0, 1], ["test/other"] * 2, 20.0)]), 5.01: Actions(replicas={0: 1})}
    looks = []

    def act(t, seen):
        looks.append((t, int(seen.active[0] + seen.starting[0]), int(seen.draining[0])))
        return asked[t]

    zeros = np.zeros(40, np.int64)
    requests = Requests(np.arange(40.0), zeros, zeros + 50, zeros + 200, np.full(40, 200.0), zeros)
    steps = Controller(lambda t: next((at for at in asked if at > t), np.inf), act)
    other = PROFILE.model_copy(update={"name": "test/other"})
    outcome = Replay(
        requests, Fleet((Pool("s", "r", PROFILE),)), [3], controller=steps, profiles=[other]
    ).run(check=True)  # fmt: skip
    assert looks == [(5.0, 3, 0), (5.01, 1, 2)]
    went = outcome.spans.filter((pl.col("replica") == 2) & (pl.col("state") == "draining"))
    assert went["from_s"].to_list() == [5.01]


def test_a_kind_without_a_row_of_the_extension_table_is_refused():
    """One row serves all kinds; a table of several must have one for each, in every chunk of a stream."""
    zeros = np.zeros(40, np.int64)
    requests = Requests(np.arange(40.0), zeros, zeros + 50, zeros + 60, np.full(40, 5.0), zeros + 3)
    fleet, two = Fleet((Pool("s", "r", PROFILE),)), Extension(np.zeros(1, np.int64), np.full((2, 1), 7, np.int64))
    assert (Replay(requests, fleet, [2], "least-outstanding").run().status == OK).all()
    with pytest.raises(ValueError, match="of kinds 3 to 3; the extension table has rows for kinds 0 to 1"):
        Replay(requests, fleet, [2], "least-outstanding", extension=two).run()
    plain = replace(requests, kind=zeros)
    with pytest.raises(ValueError, match="has rows for kinds 0 to 0"):
        list(Replay(plain, fleet, [2], "least-outstanding").stream([replace(requests, arrival_s=np.arange(40.0) + 40)]))
