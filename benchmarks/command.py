"""The whole command on 1 M requests: `.venv/bin/python benchmarks/command.py [--requests 1000000]`.

Start-up, ingest, replay, scores and report, as a user waits for them; first with the file unseen, then stored.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from kernel import PROFILE, requests


def run(*arguments: str, home: str) -> tuple[float, float]:
    """(wall, CPU) seconds of one `lmaas` command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [str(Path(sys.executable).with_name("lmaas")), *arguments]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "LMAAS_HOME": home})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    given = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'replicas':>8} {'what':<18} {'wall s':>7} {'CPU s':>6} {'requests/s':>11}")
    for replicas in (16, 64):
        with tempfile.TemporaryDirectory() as folder:
            table = requests(given.requests, replicas)
            columns = {f: getattr(table, f) for f in ("arrival_s", "input_tokens", "output_tokens")}
            path = f"{folder}/trace.parquet"
            pl.DataFrame(columns).write_parquet(path)
            ask = [
                "evaluate", path, "--policy", f"static(replicas={replicas})", "--baseline", "none",
                "--train-fraction", "0", "--profile", PROFILE,
            ]  # fmt: skip
            for what in ("unseen file", "stored trace"):
                wall, cpu = run(*ask, home=f"{folder}/home")
                print(f"{replicas:>8} {what:<18} {wall:>7.1f} {cpu:>6.1f} {given.requests / wall:>11,.0f}")


if __name__ == "__main__":
    main()
