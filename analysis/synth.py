"""Draw a synthetic trace from a spec file: the same spec and version give the same bytes.

    python -m lmaas.analysis.synth sample_traces/sample.toml sample_traces/sample.parquet

The model is in `synth_spec` (parameters) and `synth_draw` (how they are drawn).
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import polars as pl

from .errors import Exit, UserError
from .servegen import read_clients
from .servegen_draw import draw_clients
from .synth_draw import draw
from .synth_spec import SynthSpec
from .trace import ROW_GROUP

__all__ = ["SynthSpec", "synth", "synth_clients"]


def synth(spec: SynthSpec, out: Path) -> Path:
    """Draw `spec` into a canonical Parquet trace at `out` and return `out`.

    Columns: arrival_s (rounded to 1 ms), service, region, tenant, tier, input_tokens, output_tokens. The
    file's key-value metadata holds `lmaas.epoch` (ISO 8601) and `lmaas.synth` (the resolved spec as JSON).
    Replaces `out` in one step.

    UserError: exit 2 if `out` cannot be written, 5 if the spec draws no request.
    """
    table = draw(spec)
    if table.is_empty():
        raise UserError(f"spec '{spec.name}' drew no request in {spec.days:g} days; raise days or rates", Exit.CONFIG)
    metadata = {
        "lmaas.epoch": spec.epoch.isoformat(),
        "lmaas.synth": spec.model_dump_json(),
        "lmaas.synth.numpy": np.__version__,  # its streams may change between versions
    }
    return _store(table, metadata, out, level=19)


def synth_clients(
    folder: Path, out: Path, seed: int = 0, days: float | None = None, requests_per_s: float | None = None
) -> list[str]:
    """Draw ServeGen's client statistics in `folder` into a canonical Parquet trace at `out`; returns what to tell.

    See `servegen_draw.draw_clients`. The trace has no epoch: at which hour its day begins is not known. UserError as
    `synth`, and exit 4 for what is no such folder.
    """
    table, notes = draw_clients(read_clients(folder), seed, days, requests_per_s)
    asked = {"servegen": folder.resolve().name, "seed": seed, "days": days, "requests_per_s": requests_per_s}
    # millions of rows: the last tenth of the size would cost most of the time
    _store(table, {"lmaas.synth": json.dumps(asked), "lmaas.synth.numpy": np.__version__}, out, level=3)
    return notes


def _store(table: pl.DataFrame, metadata: dict[str, str], out: Path, level: int) -> Path:
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        table.write_parquet(
            partial, compression="zstd", compression_level=level, row_group_size=ROW_GROUP, metadata=metadata
        )
        partial.replace(out)
    except OSError as error:
        raise UserError(f"{out}: cannot write the trace: {error.strerror or error}", Exit.USAGE) from None
    finally:
        partial.unlink(missing_ok=True)
    return out


def main(argv: list[str]) -> int:
    """Entry point of the module: SPEC.toml OUT.parquet."""
    if len(argv) != 2:
        print("usage: python -m lmaas.analysis.synth SPEC.toml OUT.parquet", file=sys.stderr)
        return Exit.USAGE
    try:
        out = synth(SynthSpec.load(Path(argv[0])), Path(argv[1]))
    except UserError as error:
        print(f"lmaas: {error}", file=sys.stderr)
        return error.code
    print(out)
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
