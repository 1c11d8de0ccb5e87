"""CSV that a spreadsheet shows as it is: no text of a trace runs in it as a formula."""

from pathlib import Path

import polars as pl

TRIGGERS = "=+\\-@＝＋－＠"  # begin a formula, the wide ones in some East Asian locales
# after a separator, too: which one splits a line into cells depends on the reader's locale, not on ours
FORMULA = rf"(^|[;,|\t\r\n])([ \t]*)([{TRIGGERS}])"
LEADING = r"^([\t\r])"


def write_csv(rows: pl.DataFrame, path: Path) -> None:
    """Write `rows`, with an apostrophe before what would begin a formula; numbers stay numbers."""
    text = [pl.col(name) for name, dtype in rows.schema.items() if not dtype.is_numeric() and dtype != pl.Boolean]
    rows.with_columns(harmless(column.cast(pl.String)) for column in text).write_csv(path)


def harmless(text: pl.Expr) -> pl.Expr:
    """`text` as a cell that is no formula; OWASP's advice on CSV injection."""
    return text.str.replace_all(FORMULA, "${1}${2}'${3}").str.replace(LEADING, "'${1}")
