"""Model files: what is loaded is what was saved, and nothing that a file holds ends the process."""

import json
import random
import subprocess
import sys
import textwrap
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from requests_data import habits

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.lengths import LengthPredictor
from lmaas.analysis.lengths.kinds import PREDICTORS
from lmaas.analysis.lengths.modelfile import load, save
from lmaas.analysis.lengths.modelform import Facts

CUT_S = 3600.0
FACTS = Facts(
    trace_id="abc", trace_name="<b>", epoch=None, from_s=0.0, to_s=3599.0, cut_s=CUT_S, rows=1, kind="trees", seed=0,
    note=None, sketch=[],
)  # fmt: skip


@pytest.fixture(scope="module")
def requests():
    rng = np.random.default_rng(5)
    found = habits(rng, rate=0.6)
    sessions = pl.Series([f"s{i}" for i in rng.integers(0, 90, found.height)])
    return found.with_columns(session_id=sessions, max_tokens=pl.lit(900, pl.UInt32))


@pytest.fixture
def saved(requests, tmp_path):
    def save_kind(kind, rows=requests, **more):
        predictor = LengthPredictor.train(rows, cut_s=CUT_S, kind=kind, intervals=True, **more)
        facts = FACTS.model_copy(update={"kind": kind, "rows": predictor.rows, "note": predictor.note})
        save(predictor, facts, tmp_path / "model.json")
        return predictor, tmp_path / "model.json"

    return save_kind


def changed(path, **keys):
    """The file with other values at its top, its digest made anew."""
    content = json.loads(path.read_text()) | keys
    content.pop("digest")
    digest = blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
    path.write_bytes(orjson.dumps({"digest": digest} | content))


def refused(path, match):
    with pytest.raises(UserError, match=match) as error:
        load(path)
    assert error.value.code == Exit.CONFIG
    assert path.name in str(error.value)


@pytest.mark.parametrize("kind", list(PREDICTORS))
@pytest.mark.parametrize("n", [0, 1, 30, None])
def test_what_is_loaded_predicts_the_same_to_the_bit(kind, n, requests, saved):
    rows = requests if n is None else pl.concat([requests.head(n), requests.filter(pl.col("arrival_s") >= CUT_S)])
    predictor, path = saved(kind, rows)
    loaded, facts = load(path)
    for part in (requests, requests.filter(pl.col("arrival_s") >= CUT_S), requests.head(1), requests.clear()):
        assert loaded.told(part).equals(predictor.told(part))
    assert (loaded.cut_s, loaded.kind, loaded.note) == (predictor.cut_s, kind, predictor.note)
    assert (facts.rows, facts.trace_name) == (predictor.rows, "<b>")
    save(loaded, facts, path.with_name("again.json"))
    assert path.with_name("again.json").read_bytes() == path.read_bytes()


def test_the_same_training_writes_the_same_bytes(saved):
    _, path = saved("trees", seed=3)
    first = path.read_bytes()
    saved("trees", seed=3)
    assert path.read_bytes() == first


def test_what_is_no_model_is_refused(saved, tmp_path):
    _, path = saved("trees")
    whole = path.read_bytes()
    for content, match in [
        (b"", "is no JSON"),
        (b"\x80\x04pickle", "is no JSON"),
        (whole[: len(whole) // 2], "is no JSON"),
        (b"{}", "is no model of output lengths"),
        (b"[]", "is no model of output lengths"),
        (b"[" * 200_000, "is no JSON"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "is no JSON|is no model"),
        (whole.replace(b'"seed":0', b'"seed":1'), "was cut off or changed"),
        (whole.replace(b'"schema_version":"1.2"', b'"schema_version":"9.9"'), "has schema version 9.9"),
        (whole.replace(b'"schema_version":"1.2"', b'"schema_version":"\\u001b[2J"'), "has schema version"),
    ]:  # fmt: skip
        path.write_bytes(content)
        refused(path, match)
    with pytest.raises(UserError) as error:
        load(path)
    assert "\x1b" not in str(error.value)
    refused(tmp_path / "nothing.json", "is no file")
    refused(tmp_path, "is no file")


def test_a_file_without_a_sketch_is_refused(saved):
    """Written before there were sketches, it could not tell a copy of its training."""
    _, path = saved("median")
    trained = json.loads(path.read_text())["trained"]
    del trained["sketch"]
    changed(path, trained=trained)
    refused(path, "trained.sketch")
    changed(path, schema_version="1.0")
    refused(path, "has schema version 1.0, lmaas .* reads 1.2; train it again")


def test_a_file_too_large_is_not_read(saved):
    _, path = saved("median")
    with path.open("ab") as file:
        file.truncate(1 << 40)
    refused(path, "is larger than 256 MiB")


def test_a_whole_file_with_parts_that_cannot_be_is_refused(saved):
    _, path = saved("trees")
    whole = path.read_bytes()
    content = json.loads(whole)
    one = content["model"]
    tree = one["booster"]["learner"]["gradient_booster"]["model"]["trees"][0]

    def with_tree(**keys):
        other = json.loads(json.dumps(one))
        other["booster"]["learner"]["gradient_booster"]["model"]["trees"][0] |= keys
        return {"model": other}

    n = len(tree["left_children"])
    for keys in [
        {"edges": [3.0, 2.0]}, {"edges": ["x"]}, {"longest": -1.0}, {"longest": "9"}, {"model": {"type": "pickle"}},
        {"model": None, "features": None, "shift": None}, {"features": None}, {"unknown": 1}, {"levels": [0.5]},
        {"model": one | {"booster": {}}}, {"model": one | {"scale": [1.0]}}, {"model": one | {"services": ["a", "a"]}},
        {"spread": None}, {"shift": {"services": [], "factor": [[1.0, 1.0]]}},
        {"features": content["features"] | {"numbers": ["input"]}},
        {"features": content["features"] | {"levels": {"shoe": ["a"]}}},
        {"trained": content["trained"] | {"epoch": "soon"}},
        {"trained": content["trained"] | {"epoch": "2026-01-01T00:00:00"}},  # no zone
        with_tree(left_children=[n + 5] * n), with_tree(left_children=[0] * n), with_tree(left_children=[]),
        with_tree(split_indices=[99] * n), with_tree(split_indices=[-1] * n), with_tree(split_type=[1] * n),
        with_tree(categories=[1, 2, 3]), with_tree(split_conditions=[None] * n), with_tree(tree_param={}),
        with_tree(parents=[0] * n), with_tree(default_left="yes"), with_tree(split_conditions=[1e39] * n),
    ]:  # fmt: skip
        path.write_bytes(whole)
        changed(path, **keys)
        refused(path, "does not hold a predictor")


def test_a_kind_from_outside_cannot_be_stored(saved, tmp_path):
    predictor, _ = saved("median")
    with pytest.raises(UserError, match="a predictor of object cannot be stored"):
        save(replace(predictor, model=object()), FACTS, tmp_path / "other.json")


FUZZ = """
    import json, random, sys
    from pathlib import Path
    import polars as pl
    from lmaas.analysis.errors import UserError
    from lmaas.analysis.lengths.modelfile import load

    sys.path.insert(0, sys.argv[2])
    from test_lengths_model import changed, mutated

    whole, requests = Path(sys.argv[1]).read_text(), pl.read_parquet(sys.argv[3])
    path, loaded = Path(sys.argv[1]).with_name("mutant.json"), 0
    for seed in range(int(sys.argv[4])):
        path.write_text(json.dumps(mutated(json.loads(whole), random.Random(seed))))
        changed(path)
        try:
            predictor, _ = load(path)
        except UserError:
            continue
        predictor.told(requests)
        loaded += 1
    print(loaded)
"""


def mutated(content, rng):
    """A value somewhere in the file, most often in a booster, replaced by another."""
    part = content[rng.choice(["model", "spread", "model", "features", "shift", "trained"])]
    if isinstance(part, dict) and "booster" in part and rng.random() < 0.8:
        part = part["booster"]["learner"]
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        if not keys:
            break
        key = rng.choice(keys)
        if not isinstance(part[key], (dict, list)) or rng.random() < 0.15:
            old = part[key]
            wild = [-1, 0, 1, 7, 2**31 - 1, 2**40, 1.5, "", "9", "99999", None, [], {}, [0] * 9, True]
            near = [old + 1, old - 1, old * 1000] if isinstance(old, (int, float)) else []
            part[key] = rng.choice(wild + near * 5)
            break
        part = part[key]
    return content


@pytest.mark.parametrize("kind", ["trees", "buckets"])
def test_no_file_ends_the_process(kind, requests, saved, tmp_path):
    """Random changes, in a process of its own: each is refused or predicts something, and none is a crash."""
    rows = requests.filter(pl.col("arrival_s") > CUT_S - 1200)
    _, path = saved(kind, rows)
    rows.tail(200).write_parquet(tmp_path / "rows.parquet")
    code = textwrap.dedent(FUZZ)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), here, str(tmp_path / "rows.parquet"), "50"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0 < int(done.stdout) < 50


def test_the_fuzz_changes_something():
    content = {"model": {"booster": {"learner": {"a": [1, 2, 3]}}}, "spread": {"b": [1]}, "features": {"c": 1}}
    content |= {"shift": {"d": [1, 2]}, "trained": {"e": 1}}
    others = {json.dumps(mutated(json.loads(json.dumps(content)), random.Random(seed))) for seed in range(50)}
    assert len(others) > 20
