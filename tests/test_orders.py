"""Migrations that a fleet cannot carry out end the policy, with the time; those of requests elsewhere are none."""

from dataclasses import replace

import numpy as np
import pytest

from lmaas.replay.engine import Controller, Replay, Requests
from lmaas.replay.fleet import Fault, Fleet, Pool
from lmaas.replay.profile import Profile
from lmaas.replay.protocol import Actions

SPEC = {
    "name": "test/one", "kv_tokens": 4096, "max_batch_tokens": 512, "max_seqs": 1, "kv_bytes_per_token": 1000,
    "latency": {"base": 1.0, "token_knots": [0], "token_slopes": [0.0], "decode_kv": 0.0},
}  # fmt: skip
ONE = Profile.model_validate(SPEC)
WIDE = ONE.model_copy(update={"name": "test/wide", "kv_bytes_per_token": 2000})
FLEET = Fleet(
    (
        Pool("chat", "eu", ONE, mixed=((WIDE, 1),)),
        Pool("chat", "us", ONE),
        Pool("code", "eu", ONE),
        Pool("mail", "eu", ONE, lane="prefill"),
        Pool("mail", "eu", ONE, lane="decode"),
    ),
    kv_bandwidth_gb_s=1.0,
)
RUNS, WAITS, MAILS = 0, 2, 3


def moved(*orders, at=4.5, fleet=FLEET):
    """Three requests of chat/eu, whose replica 0 runs the first while the third waits, and one of mail."""
    n = 4
    pool, tokens = np.array([0, 0, 0, 3]), np.full(n, 20)
    requests = Requests(np.zeros(n), pool, tokens, tokens, tokens.astype(float), np.zeros(n, np.int64))
    controller = Controller(lambda t: at if t < at else np.inf, lambda t, seen: Actions(migrate=list(orders)))
    return Replay(requests, fleet, [1, 2, 1, 1, 1], "least-requests", controller).run(check=True)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ((RUNS, 0, 2), "request 0 to replica 2 of pool 0 at t=4.5 s: there is none"),
        ((RUNS, 2, 0), "of pool 2 at t=4.5 s: it is at chat/eu/shared, that is code/eu/shared"),
        ((MAILS, 3, 0), "of pool 3 at t=4.5 s: it is at mail/eu/decode, that is mail/eu/prefill"),
        ((RUNS, 0, 1), "kv_bytes_per_token is 1000 in test/one and 2000 in test/wide"),
    ],
)
def test_what_cannot_be_ends_the_policy(order, says):
    with pytest.raises(ValueError) as error:
        moved(order)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("order", "record"),
    [
        ((RUNS, 1, 0), {RUNS: 2}),
        ((WAITS, 0, 1), {WAITS: 1}),  # it brings no KV
        ((7, 0, 0), {}),  # nobody
    ],
)
def test_what_can_be_is_done(order, record):
    before, after = moved(), moved(order)
    assert before.record[[RUNS, WAITS]].tolist() == [0, 0]
    expected = before.record.copy()
    for request, at in record.items():
        expected[request] = at
    assert after.record.tolist() == expected.tolist()


def test_a_request_that_has_ended_or_not_come_goes_nowhere():
    assert moved((RUNS, 2, 0), at=60.0).record.tolist() == moved(at=60.0).record.tolist()


def test_a_replica_that_was_there_once_will_do():
    """docs/replay.md: where it is no longer active, the request is routed within the pool."""
    outcome = moved((RUNS, 1, 0), fleet=replace(FLEET, faults=(Fault(2.0, pool=1, replica=0),)))
    assert outcome.record[RUNS] == 3
