"""About how many rows a source has, before it is read to its end; of Parquet exactly."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from .merged import Merged
from .packed import Compression
from .source import KEY_LINES, Source
from .unfold import ODD, Unfolded

FILES = 16  # of many, looked at
PLACES, PLACE_BYTES = 16, 1 << 16  # throughout a text, looked at
PACKED_BYTES = 1 << 22  # of a packed text, unpacked


def expected_rows(source: Source) -> float:
    """0 where nobody knows: whoever reads a damaged file tells what is wrong with it."""
    files = source.files if isinstance(source, Merged) else (source,)
    some = files[:: -(-len(files) // FILES)]
    try:
        seen = _bytes(some)
        return sum(map(_rows, some)) * _bytes(files) / seen if seen else 0.0
    except (OSError, pl.exceptions.PolarsError, *ODD):
        return 0.0


def _bytes(files: Sequence[Source]) -> int:
    return sum(file.path.stat().st_size for file in files)


def _rows(file: Source) -> float:
    if file.kind == "parquet":
        return float(pl.scan_parquet(file.path, glob=False).select(pl.len()).collect().item())
    inner = file.inner if isinstance(file, Unfolded) and file.inner else file
    if inner.document:  # of more elements than were looked at nobody knows how many there are
        values = float(len(inner.samples) if len(inner.samples) < KEY_LINES else 0)
    else:
        values = _lines(inner.path, inner.compression)
    if not isinstance(file, Unfolded) or file.format is None:
        return values
    format = file.format
    return values * sum(len(list(format.unfold(value))) for value in file.samples) / max(len(file.samples), 1)


def _lines(path: Path, compression: Compression | None) -> float:
    size = path.stat().st_size
    with path.open("rb") as file:
        if compression is None:
            ends = total = 0
            for place in range(PLACES):
                file.seek(place * max(size - PLACE_BYTES, 0) // PLACES)
                piece = file.read(min(PLACE_BYTES, size))
                ends, total = ends + piece.count(b"\n"), total + len(piece)
            return ends * size / max(total, 1)
        stream = pa.CompressedInputStream(pa.PythonFile(file), compression)
        ends = stream.read(PACKED_BYTES).count(b"\n")
        return float(ends * size / max(file.tell(), 1))
