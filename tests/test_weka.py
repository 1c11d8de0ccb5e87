"""Weka's sessions: sub-agents among the turns, block ids that mean something only where they were given."""

import json
from pathlib import Path

import polars as pl
import pytest
from trace_data import accounted, rejects

FIXTURES = Path(__file__).parent / "fixtures"

MORE = {"t": 1, "type": "n", "model": "m", "in": 64, "out": 1, "hash_ids": [1], "think_time": 2}


def session(name, *requests, **keys):
    return json.dumps({"id": name, "block_size": 64, "hash_id_scope": "local", "requests": requests, **keys})


def test_sub_agents_are_conversations_of_their_own(read):
    trace = read(FIXTURES / "weka.json")
    named = trace.table("request_id", "session_id", "turn", "parent_id", "arrival_s", "think_s")
    agent = "trace_1/1-agent_001"
    assert named.rows() == [
        ("trace_1:0", "trace_1", 1, None, 0.0, None),
        (f"{agent}:0", agent, 1, "trace_1:0", 6.0, None),
        (f"{agent}/1-agent_002:0", f"{agent}/1-agent_002", 1, f"{agent}:0", 7.25, None),
        (f"{agent}:2", agent, 2, f"{agent}:0", 9.0, 1.5),
        ("trace_1:3", "trace_1", 2, "trace_1:0", 16.0, 11.0),
    ]
    measured = trace.table("service", "input_tokens", "output_tokens", "ttft_s", "e2e_s")
    assert measured.rows() == [
        ("opus", 130, 20, 1.25, 4.5),
        ("haiku", 64, 7, None, 1.5),
        ("haiku", 70, 3, None, None),
        ("haiku", 128, 9, None, 2.0),
        ("opus", 200, 0, None, None),
    ]
    assert (trace.meta.block_size, trace.meta.time_unit, trace.meta.notes) == (64, "s", [])


def test_what_is_no_request_is_set_aside_by_its_reason(read):
    trace = read(FIXTURES / "weka.json")
    assert trace.meta.rows_set_aside == {
        "block_hashes not one per 64 input tokens": 1,
        "malformed record": 1,
        "sub-agent without requests": 1,
    }
    assert accounted(trace) == 8
    assert [text for _, _, text in rejects(trace)][2] == "nothing"


def test_block_ids_meet_within_a_conversation_and_never_across(read):
    lines = [session("a", MORE, {**MORE, "in": 128, "hash_ids": [1, 2]}), session("b", MORE)]
    trace = read("\n".join(lines))
    (one,), (again, two), (other,) = trace.table("block_hashes", "source_row").sort("source_row")["block_hashes"]
    assert one == again and len({one, two, other}) == 3
    assert any(note.startswith("times count from the start of each session") for note in trace.meta.notes)
    agents = read(FIXTURES / "weka.json").table("session_id", "block_hashes").explode("block_hashes")
    assert agents.group_by("block_hashes").agg(pl.col("session_id").n_unique())["session_id"].max() == 1


def test_block_ids_of_global_scope_stay(read):
    trace = read(session("a", MORE, hash_id_scope="global"))
    assert trace.table("block_hashes")["block_hashes"].to_list() == [[1]]


@pytest.mark.parametrize("ids", [[-1], ["1"], [1.5], [True], 7, [1 << 64]])
def test_block_ids_that_are_none_are_set_aside(read, ids):
    trace = read(session("a", MORE, {**MORE, "hash_ids": ids}))
    assert trace.meta.rows_set_aside == {"block_hashes not unsigned 64-bit integers": 1}


def test_sessions_that_are_none_are_set_aside(read):
    bad = [json.dumps({"id": "c", "block_size": 64, "requests": 5}), json.dumps({"requests": []}), "{"]
    trace = read("\n".join([session("a", MORE), *bad]))
    assert trace.meta.rows_set_aside == {"malformed record": 2, "malformed line": 1}
    assert accounted(trace) == 4


def test_real_sessions_are_the_published_table(shared, read):
    """Against the flattened copy that lies beside the raw files."""
    folder = shared / "traces" / "weka-claude-code"
    names = {"t": "arrival_s", "in": "input_tokens", "out": "output_tokens", "api_time": "e2e_s", "ttft": "ttft_s"}
    flat = pl.read_parquet(folder / "requests.parquet").select("session", "n_hash", *names)
    for path in sorted((folder / "raw").glob("*.json")):
        trace = read(path)
        wanted = flat.filter(pl.col("session") == path.stem).rename(names)
        got = trace.table("session_id", "block_hashes", *names.values())
        assert wanted.select(names.values()).rows() == got.select(names.values()).rows()
        assert wanted["n_hash"].to_list() == got["block_hashes"].list.len().to_list()
        assert (trace.meta.rows_set_aside, set(got["session_id"])) == ({}, {path.stem})
