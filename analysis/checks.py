"""Source columns to the trace table: types made and rows checked in one place, for every format alike.

`checked` gives every source row its trace columns and whether it may be kept; a bad row keeps the reason of its
first problem. Unknown stays null; nothing is repaired, rounded or guessed.
"""

from collections.abc import Collection, Mapping
from typing import TypeGuard

import polars as pl

from .account import Account
from .errors import UserError
from .formats import times
from .formats.base import SINCE_1970, Reading
from .formats.careful import MALFORMED
from .formats.merged import FILE, OWN
from .formats.padding import without_padding
from .formats.source import RESERVED, shown
from .grams import DIGITS
from .trace import REQUIRED, SCHEMA, STATUSES, TIERS

ROW = f"{RESERVED}row"
PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
NS = 1_000_000_000
LATEST_S = 2.0**53 / 1e6  # about 285 years: up to here a Float64 of seconds tells microseconds apart
MAY_BE_NEGATIVE = {"priority"}
SPELLED = {"status": STATUSES, "tier": TIERS}  # columns with a fixed vocabulary
ALWAYS = (*REQUIRED, "service", "status", "source_row")  # stored whatever the source has
NOT_HASHES = "block_hashes not unsigned 64-bit integers"
NOT_GRAMS = f"prompt_grams not {DIGITS} hexadecimal digits"


def checked(
    raw: pl.LazyFrame,
    reading: Reading,
    types: Mapping[str, pl.DataType],
    base_ns: int,
    account: Account,
    padded: Collection[str] = (),
) -> pl.LazyFrame:
    """The kept rows of `raw` (ROW, the source columns, maybe MALFORMED) in its order, with the columns of the trace
    table that the source can give; when it is collected, once, `account` gets the other rows as source_row, reason
    and text (the values read, as JSON), of a merged source also file.

    `types`: of the source columns. `base_ns`: the instant that arrival_s = 0 stands for, where times are dates.
    `padded`: those of `numbers`, as far as there may be spaces around them.
    """
    columns: dict[str, str | pl.Expr] = {"arrival_s": reading.arrival, **reading.columns}
    checks = {root for bad in reading.checks.values() for root in bad.meta.root_names()}
    table = {name: dtype for name, dtype in SCHEMA.items() if name in {*columns, *checks, *ALWAYS}}
    sources = {name: pl.col(column) if isinstance(column, str) else column for name, column in columns.items()}
    kinds = {name: _type(column, name, types) for name, column in columns.items()}
    problem = pl.col(MALFORMED) if MALFORMED in types else pl.lit(None, pl.String)
    problem = pl.coalesce(problem, *(pl.when(bad).then(pl.lit(reason)) for reason, bad in reading.asides.items()))
    from_file = [pl.col(FILE)] if FILE in types else []
    given = pl.struct(*(pl.col(name) for name in reading.told_columns() if name not in OWN)).alias(_in("text"))
    taken = [_raw(sources[name], kinds[name]).alias(_in(name)) for name in columns]
    row = pl.col(ROW).cast(pl.UInt64).alias("source_row")
    frame = raw.select(row, *from_file, given, problem.alias(MALFORMED), *taken)
    counts = [name for name in columns if _counts(name)]
    whole = [name for name in counts if SCHEMA[name].is_unsigned_integer() and _is_text(kinds[name])]
    parsed = {name: _parsed(pl.col(_in(name)), kinds[name], name, reading).alias(_num(name)) for name in counts}
    values = {name: _value(name, kinds.get(name), reading, base_ns).alias(name) for name in table}
    del values["source_row"]
    # whole numbers as they are usually written, at a third of the cost; `slowly` takes the others for what they are
    quick = {name: pl.col(_in(name)).cast(SCHEMA[name], strict=False).alias(name) for name in whole}
    rest = [_not_missing(name) for name in REQUIRED if name != "arrival_s"]
    rest += [pl.col(MALFORMED).is_null(), *(~bad.fill_null(False) for bad in reading.checks.values())]
    good = pl.all_horizontal(*(_good(name) for name in columns), *rest).fill_null(False).alias(_in("good"))
    sure = [_made(name) if name in whole else _good(name) for name in columns]
    reason, text = _reason(list(columns), kinds, reading), pl.col(_in("text")).struct.json_encode()
    file = [column.alias("file") for column in from_file]
    rejects = [pl.col("source_row"), *file, reason.alias("reason"), text.alias("text")]
    bare = ["source_row", *(FILE for _ in from_file), _in("text"), MALFORMED, *map(_in, columns)]
    spaced = [_in(name) for name in counts if isinstance(column := columns[name], str) and column in padded]
    stored = [*table, *([_num("arrival_s")] if reading.dated else [])]

    def slowly(batch: pl.DataFrame) -> pl.DataFrame:
        """The good ones among rows in doubt; the others are put aside."""
        rows = without_padding(batch.lazy().select(bare), spaced)
        rows = rows.with_columns(_raw(pl.col(name), pl.String()).alias(name) for name in spaced)
        rows = rows.with_columns(parsed.values()).with_columns(values.values())
        batch = rows.with_columns(good).collect(engine="in-memory")
        kept = batch.get_column(_in("good"))
        if not kept.all():
            account.put_aside(batch.filter(~kept).select(rejects))
        return batch.filter(kept)[stored]

    def split(batch: pl.DataFrame) -> pl.DataFrame:
        account.passing(batch.height)
        if from_file:
            account.count(batch.get_column(FILE))
        sure = batch.get_column(_in("good"))
        if not sure.all():
            batch = pl.concat([batch.filter(sure)[stored], slowly(batch.filter(~sure))]).sort("source_row")
        naive = batch.get_column(_num("arrival_s")).struct.field("naive").sum() if reading.dated else 0
        batch = batch[list(table)]
        account.keep(batch, int(naive))
        return batch

    frame = frame.with_columns(number for name, number in parsed.items() if name not in whole)
    frame = frame.with_columns((values | quick).values())
    frame = frame.with_columns(pl.all_horizontal(*sure, *rest).fill_null(False).alias(_in("good")))
    # one look at every batch: splitting with three lazy filters over a cache took a third longer, measured
    return frame.map_batches(split, schema=table, streamable=True)


def numbers(reading: Reading) -> set[str]:
    """The source columns that are read as numbers or dates, just as they stand, and as nothing else."""
    columns = {"arrival_s": reading.arrival, **reading.columns}
    plain = {column for name, column in columns.items() if isinstance(column, str) and _counts(name)}
    other = {c for n, c in columns.items() if isinstance(c, str) and not _counts(n)}
    inside = [c for c in (*columns.values(), *reading.asides.values()) if not isinstance(c, str)]
    return plain - other - {root for expression in inside for root in expression.meta.root_names()}


def arrivals_ns(raw: pl.LazyFrame, reading: Reading, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """Column `ns`: the instants of a source whose times are dates or count from 1970, where they can be read."""
    kind = _type(reading.arrival, "arrival_s", types)
    source = pl.col(reading.arrival) if isinstance(reading.arrival, str) else reading.arrival
    parsed = _parsed(_raw(source, kind), kind, "arrival_s", reading)
    return raw.select(parsed.struct.field("ns").alias("ns")).drop_nulls()


def seconds(value: pl.Expr, per_second: float) -> pl.Expr:
    """`value` / `per_second`, rounded correctly.

    Polars turns a division by a constant into a multiplication by its inverse, which is off in the last bit: 300 ms
    would not be 0.3 s. A divisor that is a column is divided by.
    """
    return value / (value * 0 + float(per_second))


def _in(name: str) -> str:
    return f"in {name}"  # the value as the source gives it


def _num(name: str) -> str:
    return f"num {name}"  # the same as a number, or as a parsed date


def _counts(name: str) -> bool:
    return SCHEMA[name].is_numeric()


def _type(column: str | pl.Expr, name: str, types: Mapping[str, pl.DataType]) -> pl.DataType:
    """The type of a source column, checked to be one that `name` can come from."""
    if not isinstance(column, str):
        roots = {root: types[root] for root in column.meta.root_names()}
        return pl.LazyFrame(schema=roots).select(column).collect_schema().dtypes()[0]
    dtype = types[column]
    wanted = "a list of whole numbers" if name == "block_hashes" else "a number" if _counts(name) else "text"
    fits = {
        "a list of whole numbers": _is_list(dtype) and dtype.inner.is_integer(),
        "a number": dtype.is_numeric() or _is_text(dtype) or (name == "arrival_s" and isinstance(dtype, pl.Datetime)),
        "text": _is_text(dtype) or dtype.is_integer(),
    }[wanted]
    if not (fits or dtype == pl.Null):
        raise UserError(f"column {shown(column)} is {dtype}; {name} needs {wanted}")
    return dtype


def _is_list(dtype: pl.DataType) -> TypeGuard[pl.List]:
    return isinstance(dtype, pl.List)


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, (pl.String, pl.Categorical, pl.Enum))


def _raw(source: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """An empty text is no value."""
    if not _is_text(kind):
        return source
    text = source.cast(pl.String)
    return pl.when(text != "").then(text)


def _parsed(raw: pl.Expr, kind: pl.DataType, name: str, reading: Reading) -> pl.Expr:
    if name == "arrival_s" and isinstance(kind, pl.Datetime):
        return times.from_dates(raw, kind)
    if name == "arrival_s" and reading.unit in SINCE_1970:
        return times.from_numbers(raw, kind, SINCE_1970[reading.unit])
    if name == "arrival_s" and reading.unit == "datetime":
        return times.parse(raw.cast(pl.String))
    return raw.cast(pl.Float64, strict=False)


def _value(name: str, kind: pl.DataType | None, reading: Reading, base_ns: int) -> pl.Expr:
    """The trace column `name` from its source; null where that has none, or none that fits."""
    dtype, raw, num = SCHEMA[name], pl.col(_in(name)), pl.col(_num(name))
    if kind is None:
        return _default(name)
    if name == "arrival_s":
        return _arrival(num, reading, base_ns)
    if dtype.is_unsigned_integer():
        fits = num.is_between(0, _top(dtype)) & (num == num.floor())
        return pl.when(fits).then(num).cast(dtype)
    if dtype.is_float():
        return pl.when(num.is_finite() & (pl.lit(name in MAY_BE_NEGATIVE) | (num >= 0))).then(num)
    if name == "block_hashes":
        return raw.cast(dtype, strict=False).map_batches(_whole, return_dtype=dtype, is_elementwise=True)
    if name in SPELLED:
        spelled = pl.when(raw.is_in(SPELLED[name])).then(raw)
        return spelled.fill_null("ok").cast(dtype) if name == "status" else spelled.cast(dtype)
    text = raw.cast(pl.String)
    if name == "prompt_grams":
        return pl.when(text.str.contains(f"^[0-9a-f]{{{DIGITS}}}$")).then(text)
    return text.fill_null(_default(name)).cast(dtype) if name in ("request_id", "service") else text.cast(dtype)


def _whole(lists: pl.Series) -> pl.Series:
    """The lists without a null in them; null for others."""
    if lists.to_arrow().values.null_count == 0:  # no copy of what is usually all of them
        return lists
    frame = pl.DataFrame({"": lists})
    return frame.select(pl.when(pl.col("").list.len() == pl.col("").list.drop_nulls().list.len()).then("")).to_series()


def _default(name: str) -> pl.Expr:
    dtype = SCHEMA[name]
    if name == "request_id":
        return pl.col("source_row").cast(pl.String)
    known = {"service": "default", "status": "ok"}
    return pl.lit(known.get(name), pl.String).cast(dtype) if not isinstance(dtype, pl.List) else pl.lit(None, dtype)


def _arrival(num: pl.Expr, reading: Reading, base_ns: int) -> pl.Expr:
    if reading.dated:
        return seconds(num.struct.field("ns") - base_ns, NS)
    instant = seconds(num, PER_SECOND[reading.unit]) if reading.unit != "s" else num
    given = pl.when(instant.is_between(0, LATEST_S)).then(instant)
    if not reading.later_ns:
        return given
    later = pl.col(FILE).replace_strict(dict(reading.later_ns), default=0, return_dtype=pl.Int64)
    # over whole nanoseconds: the very numbers that one file with one epoch would give
    moved = seconds((given * NS).round().cast(pl.Int64) + later, NS)
    return pl.when(later == 0).then(given).when(given + later / NS <= LATEST_S).then(moved)


def _top(dtype: pl.DataType) -> int:
    return 65_535 if dtype == pl.UInt16 else 4_294_967_295


def _good(name: str) -> pl.Expr:
    """A value was made of what the source gives, or it gives none; NaN is none, except as a time."""
    if name == "arrival_s":
        return pl.col(name).is_not_null()
    if SCHEMA[name].is_numeric():
        return _made(name) | pl.col(_num(name)).is_nan()
    spelled = name in SPELLED
    return pl.col(_in(name)).is_null() | pl.col(_in(name)).is_in(SPELLED[name]) if spelled else _made(name)


def _made(name: str) -> pl.Expr:
    return pl.col(_in(name)).is_null() | pl.col(name).is_not_null()


def _not_missing(name: str) -> pl.Expr:
    """Token counts may be unknown only of a request that did not succeed."""
    return pl.col(name).is_not_null() | (pl.col("status") != "ok")


def _reason(columns: list[str], kinds: Mapping[str, pl.DataType], reading: Reading) -> pl.Expr:
    """The first problem of a bad row."""
    texts = all(isinstance(kinds[name], pl.String) for name in columns)
    empty = pl.all_horizontal(pl.col(_in(name)).is_null() for name in columns) if texts else pl.lit(False)
    reasons = [pl.col(MALFORMED), pl.when(empty).then(pl.lit("empty row"))]
    for name in columns:
        bad = ~_good(name).fill_null(False)
        reasons.append(pl.when(bad).then(_problem(name, reading)))
    reasons += [pl.when(~_not_missing(name)).then(pl.lit(f"{name} missing")) for name in REQUIRED[1:]]
    reasons += [pl.when(bad).then(pl.lit(reason)) for reason, bad in reading.checks.items()]
    return pl.coalesce(*reasons, pl.lit("bad row"))


def _problem(name: str, reading: Reading) -> pl.Expr:
    raw, num, dtype = pl.col(_in(name)), pl.col(_num(name)), SCHEMA[name]
    missing = pl.when(raw.is_null()).then(pl.lit(f"{name} missing"))
    if name in SPELLED:
        return pl.lit(f"{name} unknown")
    if name == "block_hashes":
        return pl.lit(NOT_HASHES)
    if name == "prompt_grams":
        return pl.lit(NOT_GRAMS)
    if name == "arrival_s" and reading.dated:
        what = "a date" if reading.unit == "datetime" else "a number since 1970"
        return pl.coalesce(missing, pl.lit(f"arrival_s not {what}"))
    if not dtype.is_numeric():
        return pl.lit(f"{name} not text")
    limit = f"above {_top(dtype)}" if dtype.is_unsigned_integer() else "too large"
    return pl.coalesce(
        missing,
        pl.when(num.is_null()).then(pl.lit(f"{name} not a number")),
        pl.when(num.is_nan()).then(pl.lit(f"{name} missing")),
        pl.when(num.is_infinite()).then(pl.lit(f"{name} not finite")),
        pl.when(num < 0).then(pl.lit(f"{name} negative")),
        pl.when((num != num.floor()) & pl.lit(dtype.is_integer())).then(pl.lit(f"{name} not whole")),
        pl.lit(f"{name} {limit}"),
    )
