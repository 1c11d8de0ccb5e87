"""`lmaas analyze` on traces of growing size: `.venv/bin/python benchmarks/analyze.py --millions 1 10 100`.

Draws two weeks of three services in three regions from ServeGen's statistics (`--shared DIR`: not in the repository) at
a rate that gives so many requests, ingests them (not timed), and analyses each in a process of its own: the library,
then the whole command with its report. Prints machine, versions, seconds, requests/s and peak memory.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from lmaas.analysis import analyze
from lmaas.analysis.ingest import ingest, open_trace
from lmaas.analysis.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
DAYS, SERVICES = 14, 3


def store(millions: float, shared: Path, folder: Path) -> int:
    """Draw and ingest the trace; how many requests it has."""
    source = folder / f"servegen-{millions:g}m.parquet"
    rps = millions * 1e6 / (DAYS * 86_400 * SERVICES)
    draw = [sys.executable, shared / "traces" / "servegen" / "resample.py", "--seed", "1", "-o", source]
    subprocess.run([*map(str, draw), "--days", str(DAYS), "--rps", f"{rps:.6f}"], check=True, capture_output=True)
    trace = ingest(source, Workspace.open(folder), mapping={"tenant": "client"}, say=lambda _: None)
    source.unlink()
    return trace.meta.rows_kept


def measure(folder: Path) -> None:
    """In a process of its own: one line of JSON."""
    trace = open_trace(None, Workspace.open(folder), say=lambda _: None)
    wall, cpu = time.perf_counter(), time.process_time()
    found = analyze(trace)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak_gib, "tables": len(found.tables)}))


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10, 100])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--folder", type=Path, help="for the traces; some 12 bytes a request (default: temporary)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    versions = ", ".join(f"{name} {version(name)}" for name in ("polars", "numpy", "statsforecast"))
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    print("    requests   wall s    CPU s   requests/s   peak GiB   whole command, wall s")
    for millions in options.millions:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rows = store(millions, options.shared, Path(folder))
            said = subprocess.run(
                [sys.executable, __file__, "--measure", folder], capture_output=True, text=True, check=True
            )
            m = json.loads(said.stdout)
            began = time.perf_counter()
            command = [str(Path(sys.executable).with_name("lmaas")), "analyze"]
            subprocess.run(command, env=os.environ | {"LMAAS_HOME": folder}, check=True, capture_output=True)
            whole = time.perf_counter() - began
            seconds = f"{m['wall']:>9.1f}{m['cpu']:>9.1f}{rows / m['wall']:>13,.0f}"
            print(f"{rows:>12,}{seconds}{m['peak']:>11.2f}{whole:>24.1f}", flush=True)


if __name__ == "__main__":
    main()
