"""Names and ids of people replaced by keyed hashes, and text dropped, before anything is written.

BLAKE2b with a key: equal values stay equal, so sessions, parents and tenants still hold together, and without the key
nobody can tell whether a guessed name is among them. The key is never stored.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import polars as pl

from .errors import Exit, UserError
from .formats.source import shown

KEY_BYTES = 16  # of a key file, at least: a shorter key can be guessed
DIGEST_BYTES = 10  # of 1e8 ids two are equal by chance once in 2e8 traces
IDS = ("request_id", "parent_id", "session_id")  # one kind: a parent is a request, or in some formats a session
NAMES = ("service", "region")  # kept unless asked: without them a trace says little
LIMITS = (
    "anonymised: tenants, sessions, request and parent ids and block hashes are keyed hashes; times, lengths, "
    "latencies and row numbers are as they were, so who has the source can tell which request is which"
)


@dataclass(frozen=True)
class Anonymiser:
    """What is replaced, and under which key."""

    key: bytes
    names: bool = False  # also NAMES
    mark: str = "anonymised"  # part of the trace's id: stable with a key file, and the same for any random key

    @classmethod
    def of(cls, key_file: Path | None, *, names: bool = False) -> "Anonymiser":
        """With a random key, or that of a file: the same hashes every time. UserError (exit 2) where it is none."""
        if key_file is None:
            return cls(secrets.token_bytes(64), names, f"anonymised {names}")
        try:
            content = key_file.read_bytes().strip()
        except OSError as error:
            raise UserError(f"{shown(str(key_file))}: cannot be read: {error.strerror}", Exit.USAGE) from None
        if len(content) < KEY_BYTES:
            told = f"{len(content)} bytes are no key, {KEY_BYTES} are: head -c 32 /dev/urandom | base64 > KEYFILE"
            raise UserError(f"{shown(str(key_file))}: {told}", Exit.USAGE)
        key = blake2b(content).digest()
        return cls(key, names, f"anonymised {names} {blake2b(b'which key', key=key, digest_size=8).hexdigest()}")

    def applied(self, kept: pl.LazyFrame) -> pl.LazyFrame:
        """`kept` with hashes for names; request ids that are row numbers are no column of it, and stay."""
        schema = kept.collect_schema()
        kinds = dict.fromkeys(IDS, "id") | {"tenant": "tenant"}
        kinds |= {name: name for name in NAMES} if self.names else {}
        hashed = [self._text(name, kind).cast(schema[name]) for name, kind in kinds.items() if name in schema]
        if "block_hashes" in schema:
            dtype = schema["block_hashes"]
            hashed.append(pl.col("block_hashes").map_batches(self._blocks, return_dtype=dtype, is_elementwise=True))
        return kept.with_columns(*hashed)

    def _text(self, name: str, kind: str) -> pl.Expr:
        hashes = partial(self._hashed, kind=kind)
        return pl.col(name).cast(pl.String).map_batches(hashes, return_dtype=pl.String(), is_elementwise=True)

    def _hashed(self, values: pl.Series, kind: str) -> pl.Series:
        distinct = values.drop_nulls().unique()
        digest = self._digest(kind, DIGEST_BYTES)
        hashes = [digest(value.encode()).hex() for value in distinct]
        return values.replace_strict(distinct, pl.Series(hashes, dtype=pl.String), return_dtype=pl.String())

    def _blocks(self, values: pl.Series) -> pl.Series:
        distinct = values.explode().drop_nulls().unique()
        digest = self._digest("block", 8)
        hashes = [int.from_bytes(digest(b"%d" % value), "big") for value in distinct]
        new = pl.Series(hashes, dtype=pl.UInt64)
        return values.list.eval(pl.element().replace_strict(distinct, new, return_dtype=pl.UInt64()))

    def _digest(self, kind: str, size: int) -> Callable[[bytes], bytes]:
        keyed = blake2b(key=self.key, person=kind.encode(), digest_size=size)

        def digest(value: bytes) -> bytes:
            state = keyed.copy()  # half the time of making a keyed one anew
            state.update(value)
            return state.digest()

        return digest
