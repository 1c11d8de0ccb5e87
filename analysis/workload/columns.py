"""What the columns of every table of an analysis mean."""

from . import latency_load, rewards, spatial, tables, temporal

COLUMNS: dict[str, dict[str, str]] = (
    tables.COLUMNS | latency_load.COLUMNS | temporal.COLUMNS | spatial.COLUMNS | rewards.COLUMNS
)
