"""What the columns of every table of an analysis mean."""

from . import latency_load, spatial, tables, temporal

COLUMNS: dict[str, dict[str, str]] = tables.COLUMNS | latency_load.COLUMNS | temporal.COLUMNS | spatial.COLUMNS
