"""What the columns of every table of an analysis mean."""

from . import latency_load, prefix_tables, rewards, session_columns, spatial, tables, temporal

PARTS = (tables, latency_load, temporal, spatial, rewards, prefix_tables, session_columns)
COLUMNS: dict[str, dict[str, str]] = {name: columns for part in PARTS for name, columns in part.COLUMNS.items()}
