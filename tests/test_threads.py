"""The platform's thread counts change no number."""

import os
import subprocess
import sys

import numpy as np
import polars as pl
from conftest import ROOT

PROGRAM = """
import sys
from pathlib import Path
from lmaas.cli.main import main
asked = ["evaluate", "trace.parquet", "--profile", sys.argv[1], "--policy", "preserve", "--policy", "hpa"]
sys.exit(main([*asked, "--baseline", "last-value", "--router", "power-of-two", "--quiet"]))
"""
THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def metrics(folder, threads):
    env = {**os.environ, "LMAAS_HOME": str(folder / f"home-{threads}"), **dict.fromkeys(THREADS, str(threads))}
    profile = ROOT / "tests" / "fixtures" / "llama-2-70b-a100-tp2-measured.json"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, profile], cwd=folder, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = (folder / f"home-{threads}").glob("runs/*/metrics.json")
    return found.read_bytes()


def test_one_thread_and_four_give_the_same_bytes(tmp_path):
    rng, n = np.random.default_rng(0), 1500
    pl.DataFrame(
        {
            "arrival_s": np.sort(rng.uniform(0, 1800, n)),
            "service": rng.choice(["chat", "code"], n),
            "input_tokens": rng.integers(1, 2000, n),
            "output_tokens": rng.integers(1, 300, n),
        }
    ).write_parquet(tmp_path / "trace.parquet")
    assert metrics(tmp_path, 1) == metrics(tmp_path, 4)
