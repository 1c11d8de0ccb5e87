"""Two traces side by side: the measures that are compared, as tables, and what they say."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from lmaas.analysis.workload.tables import OTHERS

from .blocks import LENGTHS, Blocks, matrix
from .contrast import (
    F8,
    FEWEST_BLOCKS,
    Draws,
    Effect,
    Judged,
    beyond_noise,
    delta,
    judge,
    kolmogorov,
    quantile,
    ratio,
    settled,
    size,
    spearman,
    variation,
    wasserstein,
)
from .tables import COLUMNS, Row, compared, empty, line

RANKS = {"p50": 0.5, "p99": 0.99}
CDF = np.concatenate([np.arange(0, 1, 0.01), [0.99, 0.995, 0.999]])
MIN_ROWS = 100  # a side; below there is no 1 in 100
MIN_DISPERSION_WINDOWS = 10


@dataclass(frozen=True)
class Pair:
    """Both traces' blocks, cut alike, and what is drawn of them."""

    before: Blocks
    after: Blocks
    draws: Draws
    reuse: tuple[float, float] | None = None  # share of prompt tokens that an unlimited cache would save, of each

    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables of COLUMNS."""
        mixes = [self._mix(d) for d in self.before.mix]
        rows = [
            r
            for r in (*self._load(), *(m[0] for m in mixes), *self._distributions(), self._correlation(), self._reuse())
            if r
        ]
        verdicts = beyond_noise([r["p"] for r in rows])  # type: ignore[misc]
        full = [r | {"beyond_noise": v} for r, v in zip(rows, verdicts, strict=True)]
        text = ("measure", "unit", "kind", "size", "mover")
        kinds = {c: pl.String if c in text else pl.Float64 for c in COLUMNS["compare"]} | {"beyond_noise": pl.Boolean}
        table = pl.DataFrame(full, schema=kinds)
        return {
            "compare": table.sort(
                pl.col("beyond_noise").fill_null(False),
                pl.col("effect").abs(),
                "measure",
                descending=[True, True, False],
            ),
            "compare_mix": pl.concat([m[1] for m in mixes]) if mixes else empty("compare_mix"),
            "compare_values": pl.concat([self._percentiles(m) for m in self.metrics])
            if self.metrics
            else empty("compare_values"),
            "compare_cdf": pl.concat([self._cdf(m) for m in self.metrics]) if self.metrics else empty("compare_cdf"),
        }

    @property
    def metrics(self) -> list[str]:
        """Those that both sides have."""
        return [m for m in self.after.values["metric"].unique().sort().to_list() if self._n(self.before, m)]

    @staticmethod
    def _n(side: Blocks, metric: str) -> int:
        return int(side.values.filter(metric=metric)["n"].sum())

    def _load(self) -> Iterator[Row | None]:
        for name, unit in (("requests", "requests/s"), ("input_tokens", "tokens/s"), ("output_tokens", "tokens/s")):
            sums, lengths = [_per_block(s, pl.col(name).sum()) for s in self.sides], [_seconds(s) for s in self.sides]
            stacked = [np.stack([s, w], axis=1) for s, w in zip(sums, lengths, strict=True)]
            yield self._row(f"{name} per second", unit, "ratio", _of_rates, stacked, _rate)
        counted = [_moments(s) for s in self.sides]
        if all(c[:, 0].sum() >= MIN_DISPERSION_WINDOWS for c in counted):
            what = f"variance / mean of requests per {self.before.cut.window_s:g} s"
            yield self._row(what, "", "ratio", lambda a, b: ratio(_dispersion(a), _dispersion(b)), counted, _dispersion)
            yield self._peak(counted)

    def _peak(self, counted: list[F8]) -> Row | None:
        """Peaks do not add up over blocks: the largest of those that were drawn."""
        tops = [_per_block(s, pl.col("requests").max()) for s in self.sides]
        mean = [c[:, 1].sum() / c[:, 0].sum() for c in counted]
        if not all(mean):
            return None
        values = [float(t.max() / m) for t, m in zip(tops, mean, strict=True)]
        found = float(ratio(np.array(values[0]), np.array(values[1])))
        judged = Judged(found)
        if min(map(len, tops)) >= FEWEST_BLOCKS:
            both, all_tops, k = np.concatenate(counted), np.concatenate(tops), self.draws.before

            def drawn(weights: F8, part: slice) -> F8:
                w = weights[:, part]
                level = (w @ both[part, 1]) / (w @ both[part, 0])
                with np.errstate(invalid="ignore", divide="ignore"):  # blocks without a request
                    return np.asarray(np.where(w > 0, all_tops[part], -np.inf).max(1) / level)

            every = slice(None)
            chance = ratio(drawn(self.draws.dealt, every), drawn(1 - self.draws.dealt, every))
            again = ratio(drawn(self.draws.again, slice(k)), drawn(self.draws.again, slice(k, None)))
            judged = settled(found, chance, again)
        what = f"peak / mean of {self.before.cut.window_s:g} s"
        return line(what, "", "ratio", judged, values[0], values[1], values[1] / values[0] - 1)

    def _mix(self, dimension: str) -> tuple[Row | None, pl.DataFrame]:
        names = sorted({n for s in self.sides for n in s.mix[dimension]["name"]}, key=lambda n: (n == OTHERS, n))
        parts = [matrix(s.mix[dimension], s.count, "name", names, "requests") for s in self.sides]
        shares = [p.sum(0) / p.sum() for p in parts]
        table = pl.DataFrame(
            {"by": [dimension] * len(names), "name": names, "before": shares[0], "after": shares[1]}
        ).with_columns(change=pl.col("after") - pl.col("before"))
        table = table.sort(pl.col("change").abs(), "name", descending=[True, False])
        row = self._row(f"mix of {dimension}", "", "share", variation, parts)
        if row:
            # never below 0: its draws lie above what they are draws of
            row |= {"low": None, "high": None, "mover": table["name"][0] if table["change"][0] else None}
        return row, table

    def _distributions(self) -> Iterator[Row | None]:
        for metric in self.metrics:
            scale, unit = _scale(metric), "tokens" if metric in LENGTHS else "s"
            parts, values = self._histograms(metric)
            points = dict(
                zip(
                    RANKS, zip(*(self._points(s, metric, RANKS.values()) for s in self.sides), strict=True), strict=True
                )
            )
            row = self._row(f"{metric}, median", unit, "delta", delta, parts)
            if row:
                sums = [p.sum(0) for p in parts]
                distance = float(wasserstein(sums[0], sums[1], values)) * scale
                far = {"ks": float(kolmogorov(*sums)), "wasserstein": distance}
                row |= far | compared(*points["p50"])
            yield row
            if min(self._n(s, metric) for s in self.sides) >= MIN_ROWS:
                tail = _tails(values)
                row = self._row(f"{metric}, p99", unit, "ratio", tail, parts)
                if row:
                    exact = float(ratio(*map(np.asarray, points["p99"])))
                    row |= compared(*points["p99"]) | {"effect": exact, "size": size("ratio", exact)}
                yield row

    def _correlation(self) -> Row | None:
        keys = {c: sorted({b for s in self.sides for b in s.joint[c]}) for c in ("in_bucket", "out_bucket")}
        if min(map(len, keys.values())) < 2:
            return None
        wide = len(keys["out_bucket"])
        both = [(i, o) for i in keys["in_bucket"] for o in keys["out_bucket"]]
        cells = pl.DataFrame(both, schema=dict.fromkeys(keys, pl.Int16), orient="row").with_row_index("cell")
        parts = []
        for side in self.sides:
            frame = side.joint.join(cells, on=list(keys), how="inner")
            parts.append(matrix(frame, side.count, "cell", range(len(cells)), "n").reshape(side.count, -1, wide))
        return self._row(
            "rank correlation of the lengths", "", "rho", lambda a, b: spearman(b) - spearman(a), parts, spearman
        )

    def _reuse(self) -> Row | None:
        """Without a judgement of chance: what a block of time reuses lies in those before it."""
        if self.reuse is None:
            return None
        before, after = self.reuse
        return line("prefix reuse", "", "share", Judged(after - before), before, after, after - before)

    def _histograms(self, metric: str) -> tuple[list[F8], F8]:
        """[blocks, buckets] of each side, and the buckets' mean values over both."""
        both = pl.concat([s.values.filter(metric=metric) for s in self.sides])
        means = both.group_by("bucket").agg(value=pl.col("total").sum() / pl.col("n").sum()).sort("bucket")
        buckets = means["bucket"].to_list()
        return [matrix(s.values.filter(metric=metric), s.count, "bucket", buckets, "n") for s in self.sides], means[
            "value"
        ].to_numpy()

    @staticmethod
    def _points(side: Blocks, metric: str, ranks: Iterable[float]) -> F8:
        """Percentiles in the metric's unit: of the rows where they were counted, else of the histogram."""
        if side.counted is not None:
            rows = side.counted.filter(metric=metric).sort("value")
        else:
            own = side.values.filter(metric=metric).group_by("bucket").agg(pl.col("n", "total").sum()).sort("bucket")
            rows = own.select("n", value=pl.col("total") / pl.col("n"))
        through, values = rows["n"].cum_sum().to_numpy(), rows["value"].to_numpy().astype(float)
        place = np.array(list(ranks)) * (through[-1] - 1)
        low, high = (values[np.searchsorted(through, k, side="right")] for k in (np.floor(place), np.ceil(place)))
        return np.asarray((low + (high - low) * (place - np.floor(place))) * _scale(metric))

    def _percentiles(self, metric: str) -> pl.DataFrame:
        scale = _scale(metric)
        parts, values = self._histograms(metric)
        k = self.draws.before
        drawn = (self.draws.again[:, :k] @ parts[0], self.draws.again[:, k:] @ parts[1])
        rows = []
        for side, name, counts in zip(self.sides, ("before", "after"), drawn, strict=True):
            row: Row = {"metric": metric, "side": name, "n": self._n(side, metric)}
            points = self._points(side, metric, RANKS.values())
            for (label, rank), point in zip(RANKS.items(), points, strict=True):
                again = quantile(counts, values, rank) * scale
                again = again[np.isfinite(again)]
                known = side.count >= FEWEST_BLOCKS and len(again) > 0
                low, high = np.quantile(again, [0.025, 0.975]) if known else (None, None)
                row |= {label: point, f"{label}_low": low, f"{label}_high": high}
            rows.append(row | {"exact": side.counted is not None})
        floats = dict.fromkeys((c for c in COLUMNS["compare_values"] if c.startswith("p")), pl.Float64)
        kinds = {"metric": pl.String, "side": pl.String, "n": pl.Int64} | floats | {"exact": pl.Boolean}
        return pl.DataFrame(rows, schema=kinds)

    def _cdf(self, metric: str) -> pl.DataFrame:
        columns = [self._points(s, metric, CDF) for s in self.sides]
        shares = {"metric": [metric] * len(CDF), "share": CDF}
        return pl.DataFrame(shares | {"before": columns[0], "after": columns[1]})

    @property
    def sides(self) -> tuple[Blocks, Blocks]:
        """Before, after."""
        return self.before, self.after

    def _row(
        self,
        measure: str,
        unit: str,
        kind: str,
        effect: Effect,
        parts: list[F8],
        value: Callable[[F8], F8] | None = None,
    ) -> Row | None:
        judged = judge(effect, parts[0], parts[1], self.draws)
        if judged is None:
            return None
        row = line(measure, unit, kind, judged)
        if value is not None:
            sides = [float(value(p.sum(0))) for p in parts]
            row |= {"before": sides[0], "after": sides[1], "change": sides[1] - sides[0]}
            row |= compared(*sides) if kind == "ratio" else {}
        return row


def _scale(metric: str) -> float:
    """Of a metric's whole numbers to its unit, tokens or seconds."""
    return 1.0 if metric in LENGTHS else 1e-6


def _per_block(side: Blocks, value: pl.Expr) -> F8:
    found = np.zeros(side.count)
    sums = side.windows.group_by("block").agg(value=value)
    found[sums["block"].to_numpy()] = sums["value"].to_numpy()
    return found


def _seconds(side: Blocks) -> F8:
    """Length of each block: the last is longer; a trace without span has none."""
    found = np.full(side.count, side.cut.block_s)
    found[-1] = side.span_s - (side.count - 1) * side.cut.block_s
    return found


def _rate(sums: F8) -> F8:
    """Of [..., (amount, seconds)]; NaN without a span."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan))


def _of_rates(before: F8, after: F8) -> F8:
    return ratio(_rate(before), _rate(after))


def _moments(side: Blocks) -> F8:
    """[blocks, (windows, requests, squares of requests per window)]."""
    requests = pl.col("requests").cast(pl.Float64)
    return np.stack(
        [side.window_count(), _per_block(side, requests.sum()), _per_block(side, (requests**2).sum())], axis=1
    )


def _dispersion(sums: F8) -> F8:
    n, total, squares = (sums[..., k] for k in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((squares - total**2 / n) / (n - 1) / (total / n))


def _tails(values: F8) -> Effect:
    """The ratio of the p99 of counts per bucket."""
    return lambda before, after: ratio(*(quantile(c, values, RANKS["p99"]) for c in (before, after)))
