"""A file's bytes: unpacked as they are read, its first lines, and what is no text."""

import shlex
from pathlib import Path
from typing import IO, Literal

from lmaas.analysis.errors import UserError

Compression = Literal["gzip", "zstd"]

HEAD_BYTES = 1 << 18  # read to tell what a file is
LINE_LIMIT = 1 << 26  # bytes; a longer line is no trace row, and would have to fit in memory

PACKED: dict[bytes, str] = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"7z\xbc\xaf": "7-Zip"}


def compression_of(magic: bytes) -> Compression | None:
    """How a file is packed that begins like this."""
    if magic[:2] == b"\x1f\x8b":
        return "gzip"
    return "zstd" if magic[:4] == b"\x28\xb5\x2f\xfd" or is_skippable(magic) else None


def is_skippable(magic: bytes) -> bool:
    """Whether it begins with a frame of zstd that holds no data, as pzstd writes; Polars takes such a file for text."""
    return b"\x50" <= magic[:1] <= b"\x5f" and magic[1:4] == b"\x2a\x4d\x18"


def open_bytes(path: Path, compression: Compression | None) -> IO[bytes]:
    """The bytes of a file, unpacked."""
    if compression is None:
        return path.open("rb")
    import pyarrow as pa  # deferred: only compressed files need it

    stream: IO[bytes] = pa.CompressedInputStream(pa.OSFile(str(path)), compression)
    return stream


def damaged(compression: Compression) -> str:
    """What to say of packed bytes that cannot be unpacked to their end."""
    return f"its {compression} data is damaged or cut short; copy it again"


def first_lines(stream: IO[bytes]) -> bytes:
    """The first lines: at least one whole line, if any line is shorter than LINE_LIMIT."""
    head = stream.read(HEAD_BYTES)
    while head and b"\n" not in head and len(head) < LINE_LIMIT:
        more = stream.read(HEAD_BYTES)
        if not more:
            return head
        head += more
    return head


def refuse_binary(name: str, head: bytes) -> None:
    """UserError where these first lines are of no text."""
    for magic, packer in PACKED.items():
        if head.startswith(magic):
            raise UserError(f"{name}: packed with {packer}; unpack it first (gzip and zstd are read as they are)")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{name}: is UTF-16 text; save it as UTF-8: iconv -f UTF-16 -t UTF-8 {shlex.quote(name)}")
    if head.startswith(b"PAR1"):
        raise UserError(f"{name}: Parquet, packed once more; unpack it first: Parquet is packed within")
    first = head.split(b"\n", 1)[0][:4096]
    if any(byte < 32 and byte not in b"\t\r\f" for byte in first):
        raise UserError(f"{name}: is not a text file, nor Parquet; expected a trace as CSV, JSONL or Parquet")
