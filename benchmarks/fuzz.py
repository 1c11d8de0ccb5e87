"""Damaged traces by the thousand: `.venv/bin/python benchmarks/fuzz.py --seconds 600 --memory-gib 4`.

The cases of tests/test_fuzz.py with other seeds, every fixture in turn, with a limit on memory and on the seconds a
case may take. Prints machine, versions, the cases read and refused by fixture, peak memory, and every case that broke.
"""

import argparse
import platform
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from test_fuzz import TRACES, changed_bytes, changed_values, outcome

CASE_S = 30


def _stuck(*_: object) -> None:
    raise TimeoutError(f"more than {CASE_S} s")


def main() -> None:
    """Try, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--memory-gib", type=float, default=4)
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    options = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, polars {version('polars')}")
    signal.signal(signal.SIGALRM, _stuck)
    until, seed, counts = time.monotonic() + options.seconds, options.first, Counter[tuple[str, str]]()
    while time.monotonic() < until:
        path, rng = TRACES[seed % len(TRACES)], random.Random(seed)
        with tempfile.TemporaryDirectory() as folder:
            content = rng.choice((changed_bytes, changed_values))(path.read_bytes(), rng)
            signal.alarm(CASE_S)
            try:
                told = outcome(path, Path(folder), content)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                told = "broke"
                where = traceback.extract_tb(error.__traceback__)[-1]
                print(f"seed {seed} {path.name}: {type(error).__name__}: {str(error)[:300]!r} at {where}", flush=True)
            signal.alarm(0)
        counts[path.name, told] += 1
        seed += 1
    for path in TRACES:
        print(f"{path.name:28}", *(f"{told} {counts[path.name, told]:>6}" for told in ("read", "refused", "broke")))
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    broke = sum(n for (_, told), n in counts.items() if told == "broke")
    print(f"{counts.total():,} cases, {broke} broke, peak {peak_gib:.2f} GiB")
    sys.exit(broke > 0 or peak_gib > options.memory_gib)


if __name__ == "__main__":
    main()
