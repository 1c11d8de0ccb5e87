"""The switch from one deployment to another: who sends what, by hand and by its laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.policies.oserve.switching import Cluster, Sharded, laid_out, transfer

TWO_NODES = Cluster(gpus=8, per_node=4, within_bytes_s=400.0, between_bytes_s=100.0)


def test_two_small_replicas_become_one_of_two():
    """Each GPU keeps the half it needs: nothing moves."""
    found = transfer([Sharded((0,)), Sharded((1,))], [Sharded((0, 1), tp=2)], TWO_NODES, 800.0, 4)
    assert found.total == 0
    assert found.seconds == 0


def test_one_of_two_becomes_two_small():
    """Each GPU gets the other's half, at the same time: 400 bytes a link of 400 a second."""
    found = transfer([Sharded((0, 1), tp=2)], [Sharded((0,)), Sharded((1,))], TWO_NODES, 800.0, 4)
    assert found.sent[0, 1] == found.sent[1, 0] == 400
    assert found.seconds == 1.0


def test_a_source_in_the_same_node_comes_first():
    """GPUs 0 (this node) and 4 (the other one) hold all; 1 and 5 get it from their own, whatever was sent."""
    found = transfer([Sharded((0,)), Sharded((4,))], [Sharded((1,)), Sharded((5,))], TWO_NODES, 800.0, 4)
    assert found.sent[0, 1] == found.sent[4, 5] == 800
    assert found.seconds == 2.0


def test_who_has_sent_least_sends_next():
    """Two holders share what a third lacks, layer by layer."""
    found = transfer([Sharded((0,)), Sharded((1,))], [Sharded((2,))], TWO_NODES, 800.0, 4)
    assert found.sent[0, 2] == found.sent[1, 2] == 400
    assert found.seconds == 2.0  # one GPU receives it all


def test_across_nodes_it_takes_the_networks_time():
    found = transfer([Sharded((0,))], [Sharded((4,))], TWO_NODES, 800.0, 4)
    assert found.seconds == 8.0


def test_stages_hold_their_layers():
    """From TP 2 to PP 2: each GPU lacks half of every layer of its stage."""
    found = transfer([Sharded((0, 1), tp=2)], [Sharded((0, 1), pp=2)], TWO_NODES, 800.0, 4)
    assert found.sent[1, 0] == found.sent[0, 1] == 200


def test_what_nobody_holds_is_missing():
    found = transfer([Sharded((0, 1), pp=2)], [Sharded((2,))], TWO_NODES, 800.0, 4)
    assert (found.total, found.missing) == (800, 0)
    found = transfer([], [Sharded((2,))], TWO_NODES, 800.0, 4)
    assert (found.total, found.missing) == (0, 800)


SHAPES = st.lists(st.sampled_from([(1, 1), (2, 1), (1, 2), (4, 1), (2, 2)]), max_size=5)


def fitting(shapes):
    kept, left = [], 8
    for tp, pp in shapes:
        if tp * pp <= left:
            kept.append((tp, pp))
            left -= tp * pp
    return kept


@settings(max_examples=100, deadline=None)
@given(SHAPES.map(fitting), SHAPES.map(fitting))
def test_a_switch_sends_what_is_lacking_and_no_more(old, new):
    before, _ = laid_out(old, [], TWO_NODES)
    after, stays = laid_out(new, before, TWO_NODES)
    used = [gpu for replica in after for gpu in replica.gpus]
    assert len(used) == len(set(used)) == sum(tp * pp for tp, pp in new)
    assert all(len({TWO_NODES.node(g) for g in replica.gpus}) == 1 for replica in after)
    assert all(after[n] == before[b] for n, b in enumerate(stays) if b >= 0)
    found = transfer(before, after, TWO_NODES, 960.0, 6)
    share = {gpu: 960.0 / len(r.gpus) for r in before for gpu in r.gpus}
    full = sum(960.0 for _ in after)
    assert found.total + found.missing <= full + 1e-9
    assert found.total + found.missing >= full - sum(share.values()) - 1e-9
    assert (np.diag(found.sent) == 0).all()
    assert found.missing == (full if not before else 0)
    assert found.seconds <= found.total / 100.0 + 1e-9


def test_what_stays_moves_where_the_rest_would_not_fit():
    """One small replica in each node leaves no four in a row: the first of them moves."""
    before = [Sharded((0,)), Sharded((4,))]
    after, stays = laid_out([(1, 1), (1, 1), (4, 1)], before, TWO_NODES)
    assert sorted(stays) == [-1, -1, 1] or sorted(stays) == [-1, -1, 0]
    assert len({gpu for replica in after for gpu in replica.gpus}) == 6


def test_too_many_gpus_are_refused():
    with pytest.raises(ValueError, match="12 GPUs are asked for, and there are 8"):
        laid_out([(4, 1)] * 3, [], TWO_NODES)
