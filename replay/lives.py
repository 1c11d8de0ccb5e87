"""The life of every replica of a replay: who it is, and what it was in when."""

from dataclasses import dataclass, field

import polars as pl

STATES = ("starting", "active", "draining", "donated", "off")


@dataclass
class Lives:
    """The log of every replica: who it is, and its changes of state."""

    who: list[tuple[int, int, int, int]] = field(default_factory=list)  # (pool, index, profile, gpus) by record
    log: list[list[tuple[float, int]]] = field(default_factory=list)  # (time, row in STATES) by record
    busy_s: dict[int, float] = field(default_factory=dict)

    def born(self, pool: int, index: int, profile: int, gpus: int) -> int:
        """A new record."""
        self.who.append((pool, index, profile, gpus))
        self.log.append([])
        return len(self.who) - 1

    def note(self, record: int, t: float, state: str) -> None:
        """The replica is in `state` from t on; what was promised for later will not happen."""
        kept = [(at, what) for at, what in self.log[record] if at <= t]
        self.log[record] = [*kept, (t, STATES.index(state))]

    def promise(self, record: int, t: float, state: str) -> None:
        """The replica will be in `state` from t on, unless something else comes."""
        self.log[record].append((t, STATES.index(state)))

    def replicas(self) -> pl.DataFrame:
        """record, pool, replica, profile, gpus."""
        schema = dict.fromkeys(("pool", "replica", "profile", "gpus"), pl.Int64)
        table = pl.DataFrame(self.who, schema=schema, orient="row").with_row_index("record")
        return table.with_columns(pl.col("record").cast(pl.Int64))

    def spans(self, end_s: float) -> pl.DataFrame:
        """record, pool, replica, state, from_s, to_s of every state but off; what lasts ends at end_s."""
        rows = [(record, at, state) for record, log in enumerate(self.log) for at, state in log]
        schema = {"record": pl.Int64, "from_s": pl.Float64, "state": pl.Int64}
        return (
            pl.DataFrame(rows, schema=schema, orient="row")
            .with_row_index("order")
            .sort("record", "from_s", "order")
            .with_columns(to_s=pl.col("from_s").shift(-1).over("record").fill_null(end_s))
            .with_columns(to_s=pl.col("to_s").clip(upper_bound=end_s))
            .filter((pl.col("state") < STATES.index("off")) & (pl.col("to_s") > pl.col("from_s")))
            .with_columns(state=pl.col("state").replace_strict(dict(enumerate(STATES)), return_dtype=pl.String))
            .join(self.replicas(), on="record", how="left")
            .select("record", "pool", "replica", "state", "from_s", "to_s")
        )
