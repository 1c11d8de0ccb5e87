"""The process that runs a `--where` expression: reads what is asked as JSON on stdin, writes one bit a row.

Ends with 0 and the packed bits on stdout, or with 2 and the reason as text. What holds an expression in, from the
outside in: the parent's time limit; a limit on this process' memory; DuckDB without extensions, with files closed but
for the trace and its settings locked; and only functions that always give the same answer, of single rows, without
sub-selects.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np

TABLE = "trace"
BATCH = 1 << 17
# their answers change, or they do more than answer
UNSTABLE = "gives another answer at another time, or does more than answer"
TYPES = {"String": "VARCHAR", "Float64": "DOUBLE", "UInt16": "USMALLINT", "UInt32": "UINTEGER", "UInt64": "UBIGINT"}
DEPTH = 8  # macros that call macros

Tree = dict[str, Any] | list[Any]


class Refused(Exception):
    """An expression that is not run, and why."""


def main() -> int:
    """Answer one question."""
    asked = json.load(sys.stdin)
    limit_memory(asked["memory"])
    try:
        bits = answer(asked)
    except Refused as error:
        return refuse(str(error))
    except duckdb.OutOfMemoryException:
        return refuse(f"asked for more memory than there is for it ({asked['memory'] >> 30} GB)")
    except duckdb.Error as error:
        return refuse(plain(error))
    sys.stdout.buffer.write(bits)
    return 0


def refuse(why: str) -> int:
    """Say why, and the exit code."""
    sys.stdout.buffer.write(why.encode(errors="replace"))
    return 2


def limit_memory(size: int) -> None:
    """Have the system refuse this process more than `size` bytes; where it can (not on Windows)."""
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    allowed = size if most == resource.RLIM_INFINITY else min(size, most)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def answer(asked: dict[str, Any]) -> bytes:
    """One bit a row of the file, most significant first: in the period, and the expression is true."""
    where = asked["where"]
    database = closed(asked["path"], asked["memory"] // 4)
    check(database, where)
    rows = view(database, asked["path"], asked["columns"])
    condition = duckdb.SQLExpression(where)
    (kind,) = rows.select(condition).types
    if str(kind) != "BOOLEAN":
        raise Refused(f"is not true or false, but {str(kind).strip(chr(34))}")
    at = duckdb.ColumnExpression("arrival_s")
    for bound, inside in ((asked["since_s"], "__ge__"), (asked["until_s"], "__lt__")):
        if bound is not None:
            rows = rows.filter(getattr(at, inside)(duckdb.ConstantExpression(bound)))
    kept = np.zeros(asked["rows"], dtype=bool)
    for batch in rows.filter(condition).select("file_row_number").to_arrow_reader(BATCH):
        kept[batch.column(0).to_numpy()] = True
    return np.packbits(kept).tobytes()


def closed(path: str, memory: int) -> duckdb.DuckDBPyConnection:
    """A database in memory that can read `path` and nothing else, write nothing, load nothing."""
    database = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,  # a variable of this process is no table
            "memory_limit": f"{memory}B",
            "max_temp_directory_size": "0B",
            "threads": 2,
        },
    )
    database.execute("SET allowed_paths = $1", [[path]])
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    return database


def view(database: duckdb.DuckDBPyConnection, path: str, columns: dict[str, str]) -> duckdb.DuckDBPyRelation:
    """The trace table with all its `columns` (name -> Polars type), those that are not in the file null."""
    stored = database.read_parquet(path, file_row_number=True)
    have = dict(zip(stored.columns, stored.types, strict=True))
    parts = [duckdb.ColumnExpression("file_row_number")]
    for name, kind in columns.items():
        if name in have:
            column = duckdb.ColumnExpression(name)
        elif name == "request_id":  # as `Trace.scan` gives it
            column = duckdb.ColumnExpression("source_row").cast("VARCHAR")
        else:
            sql = "UBIGINT[]" if kind.startswith("List") else TYPES.get(kind, "VARCHAR")
            column = duckdb.ConstantExpression(None).cast(sql)
        parts.append(column.alias(name))
    return stored.select(*parts).set_alias(TABLE)


def check(database: duckdb.DuckDBPyConnection, where: str, depth: int = DEPTH) -> None:
    """Refused unless `where` is one expression of single rows whose functions only answer."""
    if not where.strip():
        raise Refused("is empty")
    duckdb.SQLExpression(where)  # DuckDB's parser: one expression, no second statement, no FROM
    # the line break ends a comment
    (written,) = database.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{where}\n)"]).fetchall()[0]
    tree = json.loads(written)
    if tree["error"]:
        raise Refused(tree["error_message"].splitlines()[0])
    functions: set[str] = set()
    for node in nodes(tree["statements"]):
        kind = node.get("class")
        if kind == "SUBQUERY":
            raise Refused("holds a sub-select; it may only ask about single rows")
        if kind == "PARAMETER":
            raise Refused("holds a parameter ($1 or ?), which has no value")
        if kind == "STAR":
            raise Refused("stands for several columns; name one")
        if kind == "WINDOW":
            raise Refused("holds a window function; it may only ask about single rows")
        if kind == "FUNCTION":
            functions.add(node["function_name"])
    for name in sorted(functions):
        check_function(database, name, depth)


def check_function(database: duckdb.DuckDBPyConnection, name: str, depth: int) -> None:
    """Refused where a function is none of single rows, or answers differently at another time."""
    found = database.execute(
        "SELECT function_type, stability, macro_definition FROM duckdb_functions() WHERE function_name = lower(?)",
        [name],
    ).fetchall()
    for kind, stability, definition in found:
        if kind == "macro":
            if not depth:
                raise Refused(f"{name}() is nested too deeply")
            check(database, definition, depth - 1)
        elif kind == "scalar" and stability != "CONSISTENT":
            raise Refused(f"{name}() {UNSTABLE}; for a sample write hash(source_row) % 10 = 0")
        elif kind == "aggregate" and not any(k == "scalar" for k, *_ in found):
            raise Refused(f"{name}() is of many rows; it may only ask about single ones")
    # one that is not found, DuckDB names with those that are near


def nodes(tree: Tree) -> Iterator[dict[str, Any]]:
    """Every object of a JSON tree, without recursion: expressions may be nested deeply."""
    left: list[Any] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)


def plain(error: duckdb.Error) -> str:
    """What DuckDB says of an expression, without the query around it."""
    text = str(error).split("\n\nLINE ")[0]
    return " ".join(text.split()).removeprefix("Binder Error: ").removeprefix("Parser Error: ")


if __name__ == "__main__":
    sys.exit(main())
