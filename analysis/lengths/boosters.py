"""A booster of xgboost as JSON, and back: looked through first, for xgboost takes what it is given at its word.

Loaded unchecked, a child beyond its tree, a tree that leads back to itself or a list of the wrong length is read out
of bounds: the process ends without a word. So nothing is handed over that its own arrays do not bear out.
"""

import math
import re
from collections.abc import Callable
from importlib import metadata
from typing import Any

import orjson

MAX_NODES = 1 << 16  # of a tree; ours have below a hundred
ROOT_PARENT = 2**31 - 1
NUMBERS = ("base_weights", "loss_changes", "split_conditions", "sum_hessian")
INTEGERS = ("default_left", "left_children", "right_children", "parents", "split_indices", "split_type")
CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
SCORES = re.compile(r"\[?[-+0-9.eE,]{1,2000}\]?")


class Unfit(ValueError):
    """What a booster's JSON has that a booster has not."""


def as_json(booster: Any) -> Any:
    """The booster in xgboost's own JSON, parsed."""
    return orjson.loads(bytes(booster.save_raw("json")))


def from_json(value: Any, *, types: list[str], outputs: int, objective: str) -> Any:
    """The xgboost.Booster; Unfit where it is none of these features and outputs.

    Predictions are the same to the bit: JSON holds every number in as many digits as it takes.
    """
    _check(value, types, outputs, objective)
    import xgboost  # deferred: costs 1.5 s

    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(orjson.dumps(value)))
    except xgboost.core.XGBoostError as error:
        raise Unfit(f"xgboost {xgboost.__version__} cannot read it: {str(error).splitlines()[0][:200]}") from None
    booster.set_param({"nthread": 1})  # is not stored; all threads are slower than one on a small machine
    return booster


def library_version() -> str:
    """That of the installed xgboost."""
    for name in ("xgboost-cpu", "xgboost"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def _check(value: Any, types: list[str], outputs: int, objective: str) -> None:
    learner = _object(_object(value, "booster").get("learner"), "learner")
    _is(_texts(learner.get("feature_types")) == types, "feature types")
    _is(_texts(learner.get("feature_names")) == [], "feature names")
    _is(_object(learner.get("attributes"), "attributes") == {}, "attributes")
    goal = _object(learner.get("objective"), "objective")
    _is(goal.get("name") == objective, "objective")
    _is(_small(goal), "objective")
    _is(_small(value.get("version")) and _small(value.get("Config", {})), "version")
    shape = _object(learner.get("learner_model_param"), "learner_model_param")
    _is(_count(shape.get("num_feature")) == len(types), "number of features")
    _is(max(_count(shape.get("num_class")), _count(shape.get("num_target"))) == outputs, "number of outputs")
    scores = shape.get("base_score")
    _is(isinstance(scores, str) and bool(SCORES.fullmatch(scores)), "base_score")
    _is(len(str(scores).split(",")) in (1, outputs), "base_score")
    booster = _object(learner.get("gradient_booster"), "gradient_booster")
    _is(booster.get("name") == "gbtree", "kind of booster")
    _check_trees(_object(booster.get("model"), "model"), len(types), outputs)


def _check_trees(model: dict[str, Any], features: int, outputs: int) -> None:
    _is(_small({k: v for k, v in model.items() if k not in ("trees", "tree_info", "iteration_indptr")}), "model")
    _is(not any(_object(model.get("cats", {}), "cats").values()), "cats")  # categories are coded by us
    trees, owner = model.get("trees"), model.get("tree_info")
    _is(isinstance(trees, list) and 0 < len(trees) <= 100_000, "trees")
    assert isinstance(trees, list)
    _is(_integers(owner, len(trees), 0, outputs - 1), "tree_info")
    given = _object(model.get("gbtree_model_param"), "gbtree_model_param")
    _is(_count(given.get("num_trees")) == len(trees) and _count(given.get("num_parallel_tree")) == 1, "num_trees")
    rounds, extra = divmod(len(trees), outputs)
    _is(extra == 0 and owner == list(range(outputs)) * rounds, "tree_info")
    _is(model.get("iteration_indptr") == list(range(0, len(trees) + 1, outputs)), "iteration_indptr")
    for tree in trees:
        _check_tree(_object(tree, "tree"), features)


def _check_tree(tree: dict[str, Any], features: int) -> None:
    given = _object(tree.get("tree_param"), "tree_param")
    nodes = _count(given.get("num_nodes"))
    _is(1 <= nodes <= MAX_NODES, "num_nodes")
    _is(_count(given.get("num_feature")) == features and _count(given.get("num_deleted")) == 0, "tree_param")
    _is(_count(given.get("size_leaf_vector")) <= 1, "size_leaf_vector")
    known = {*NUMBERS, *INTEGERS, *CATEGORIES, "tree_param"}
    _is(_small({k: v for k, v in tree.items() if k not in known}), "tree")
    for name in NUMBERS:
        _is(_numbers(tree.get(name), nodes), name)
    _is(_integers(tree.get("default_left"), nodes, 0, 1) and _integers(tree.get("split_type"), nodes, 0, 1), "splits")
    _is(_integers(tree.get("split_indices"), nodes, 0, features - 1), "split_indices")
    left, right, parents = (tree.get(name) for name in ("left_children", "right_children", "parents"))
    _is(_integers(left, nodes, -1, nodes - 1) and _integers(right, nodes, -1, nodes - 1), "children")
    _is(_integers(parents, nodes, 0, ROOT_PARENT), "parents")
    assert left is not None and right is not None and parents is not None
    _is(parents[0] == ROOT_PARENT, "parents")
    seen = [0]
    for node, pair in enumerate(zip(left, right, strict=True)):
        if pair == (-1, -1):
            continue
        # children lie behind their parent and have no other: no path leads back
        _is(all(child > node and parents[child] == node for child in pair) and pair[0] != pair[1], "children")
        seen += pair
    _is(sorted(seen) == list(range(nodes)), "children")
    _check_categories(tree, nodes)


def _check_categories(tree: dict[str, Any], nodes: int) -> None:
    levels, at, starts, sizes = (tree.get(name) for name in CATEGORIES)
    _is(isinstance(levels, list) and len(levels) <= 1_000_000, "categories")
    assert isinstance(levels, list)
    _is(_integers(levels, len(levels), 0, 100_000), "categories")
    splits = [node for node in range(nodes) if tree["split_type"][node] == 1 and tree["left_children"][node] >= 0]
    _is(at == splits, "categories_nodes")
    _is(_integers(starts, len(splits), 0, len(levels)) and _integers(sizes, len(splits), 1, len(levels)), "categories")
    end = 0
    for start, size in zip(starts or [], sizes or [], strict=True):
        _is(start == end, "categories_segments")
        end += size
    _is(end == len(levels), "categories_sizes")


def _is(holds: bool, what: str) -> None:
    if not holds:
        raise Unfit(f"its {what} cannot be")


def _object(value: Any, what: str) -> dict[str, Any]:
    _is(isinstance(value, dict), what)
    return dict(value)


def _count(value: Any) -> int:
    _is(isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10, "counts")
    return int(value)


def _texts(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else ["?"]


def _all(value: Any, n: int, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) == n and all(map(fits, value))


def _numbers(value: Any, n: int) -> bool:
    return _all(value, n, lambda v: type(v) in (int, float) and math.isfinite(v) and abs(v) < 1e38)


def _integers(value: Any, n: int, low: int, high: int) -> bool:
    return _all(value, n, lambda v: type(v) is int and low <= v <= high)


def _small(value: Any, depth: int = 3) -> bool:
    """Whether what we do not know is at least harmless: short texts and numbers, few and shallow."""
    if isinstance(value, dict):
        return depth > 0 and len(value) <= 20 and all(_small(v, depth - 1) for v in value.values())
    if isinstance(value, list):
        return depth > 0 and len(value) <= 20 and all(_small(v, depth - 1) for v in value)
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 500)
