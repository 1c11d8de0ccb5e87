"""Whether what is asked changes: distance of the lengths' joint distribution from part to part of the trace.

Jensen-Shannon distance (base 2: 0 alike, 1 disjoint) between consecutive days, or tenths of a shorter trace. Two
samples of one distribution are never 0 apart, so each distance stands beside a floor: the 95th percentile of the
distances after the windows of both parts were dealt anew to them (requests come in bursts: windows, not requests,
are exchanged).
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import polars as pl

from lmaas.analysis.trace import TraceMeta
from lmaas.analysis.windows import DAY_S

from .inequality import F8

COARSE = 4  # buckets of `joint` to one here: a factor of 2, so that cells are filled
TENTHS = 10
MIN_DAYS = 4
DEALS = 200
FLOOR = 0.95
MIN_ROWS = 100  # requests of a part
CLEAR = 1.5  # times the floor; less is not worth a sentence

COLUMNS: dict[str, dict[str, str]] = {
    "mix_drift": {
        "start_s": "start of the later part, seconds since the trace's epoch",
        "length_s": "length of a part: a day, or a tenth of a trace of less than 4 days",
        "against": "'previous' part, or 'first'",
        "n": "answered requests of the later part",
        "distance": "Jensen-Shannon distance (base 2) of the (input, output) distributions in cells of a factor 2: "
        "0 alike, 1 nothing in common",
        "floor": "95th percentile of the distance after dealing the windows of both parts anew (200 times): what "
        "chance alone makes; null below 3 windows a part",
        "drifted": "distance above floor",
    }
}


def tables(joint: pl.DataFrame, joint_s: float, seed: int = 0) -> dict[str, pl.DataFrame]:
    """`mix_drift`; columns as in COLUMNS."""
    kinds: dict[str, pl.DataType] = {"against": pl.String(), "n": pl.Int64(), "drifted": pl.Boolean()}
    schema = {c: kinds.get(c, pl.Float64()) for c in COLUMNS["mix_drift"]}
    return {"mix_drift": pl.DataFrame(_rows(joint, joint_s, seed), schema=schema)}


def _rows(joint: pl.DataFrame, joint_s: float, seed: int) -> list[dict[str, object]]:
    if joint.is_empty():
        return []
    windows, grid = _grid(joint)
    first, count = int(windows[0]), int(windows[-1] - windows[0]) + 1
    if count < 2:
        return []
    per_day = round(DAY_S / joint_s)
    size = per_day if per_day and count >= MIN_DAYS * per_day else max(1, -(-count // TENTHS))
    # of the first part on, whole or not; a last one that is cut short has fewer requests and a higher floor
    part = (windows - first) // size
    parts = [grid[part == k] for k in range(int(part[-1]) + 1)]
    full = [k for k, p in enumerate(parts) if p.sum() >= MIN_ROWS]
    pairs = [("previous", a, b) for a, b in pairwise(full)]
    pairs += [("first", full[0], b) for b in full[2:]]
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for against, a, b in pairs:
        distance, floor = compare(parts[a], parts[b], rng)
        rows.append(
            {
                "start_s": (first + b * size) * joint_s,
                "length_s": size * joint_s,
                "against": against,
                "n": int(parts[b].sum()),
                "distance": distance,
                "floor": floor,
                "drifted": None if floor is None else distance > floor,
            }
        )
    return rows


def _grid(joint: pl.DataFrame) -> tuple[np.ndarray, F8]:
    """The windows there are, and requests f8[windows, coarse cells]."""
    coarse = (
        joint.group_by("window", pl.col("in_bucket") // COARSE, pl.col("out_bucket") // COARSE)
        .agg(pl.col("n").sum())
        .sort("window", "in_bucket", "out_bucket")
    )
    windows, row = np.unique(coarse["window"].to_numpy(), return_inverse=True)
    # dense: about 500 windows and a few hundred cells
    cell = coarse.select(pl.struct("in_bucket", "out_bucket").rank("dense"))
    column = cell.to_series().to_numpy().astype(np.int64) - 1
    grid = np.zeros((len(windows), int(column.max()) + 1))
    grid[row, column] = coarse["n"].to_numpy()
    return windows, grid


def compare(a: F8, b: F8, rng: np.random.Generator) -> tuple[float, float | None]:
    """The distance of two parts (requests f8[windows, cells] each) and the floor that chance alone reaches."""
    distance = float(jensen_shannon(a.sum(axis=0)[None], b.sum(axis=0)[None])[0])
    if min(len(a), len(b)) < 3:
        return distance, None
    both = np.concatenate((a, b))
    ranks = rng.random((DEALS, len(both))).argsort(axis=1)
    dealt = (ranks < len(a)).astype(np.float64) @ both
    rest = both.sum(axis=0) - dealt
    fine = (dealt.sum(axis=1) > 0) & (rest.sum(axis=1) > 0)
    if not fine.any():
        return distance, None
    return distance, float(np.quantile(jensen_shannon(dealt[fine], rest[fine]), FLOOR))


def jensen_shannon(a: F8, b: F8) -> F8:
    """Distances f8[n] of the distributions in the rows of a and b (counts, each with a sum above 0)."""
    p, q = a / a.sum(axis=1, keepdims=True), b / b.sum(axis=1, keepdims=True)
    middle = (p + q) / 2

    def towards(x: F8) -> F8:
        ratio = np.divide(x, middle, out=np.ones_like(x), where=x > 0)
        return np.asarray((x * np.log2(ratio)).sum(axis=1))

    return np.sqrt(np.clip((towards(p) + towards(q)) / 2, 0.0, 1.0))


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """How often the mix of lengths changed by more than chance."""
    found = tables.get("mix_drift", pl.DataFrame())
    if found.is_empty():
        return
    steps = found.filter(pl.col("floor").is_not_null(), against="previous")
    part = "day" if len(steps) and steps["length_s"][0] == DAY_S else "tenth of the trace"
    clear = steps.filter(pl.col("distance") > CLEAR * pl.col("floor"))
    if len(steps) < 3:
        return
    said = f"(Jensen-Shannon distance up to {float(steps['distance'].to_numpy().max()):.2f})"
    if len(clear):
        yield (
            f"The mix of lengths changes from one {part} to the next in {len(clear)} of {len(steps)} steps "
            f"by over {CLEAR:g} times what chance makes {said}."
        )
    else:
        yield (
            f"The mix of lengths holds from one {part} to the next: none of {len(steps)} steps is over {CLEAR:g} times "
            f"what chance makes {said}."
        )
