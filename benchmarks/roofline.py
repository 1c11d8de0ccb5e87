"""How far off `lmaas profile estimate` is: `.venv/bin/python benchmarks/roofline.py [--write]`.

Every shipped profile (fitted to measured kernels) is predicted by a roofline whose efficiencies were fitted without its
GPU, without its model, or without either. `--write` stores efficiencies and errors where the estimate reads them.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import polars as pl

from lmaas.replay.estimating.judged import fitted, left_out, trusted
from lmaas.replay.profile import shipped

TARGET = Path(__file__).resolve().parent.parent / "replay/data/roofline.json"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    profiles = trusted(list(shipped().values()))
    begin = time.process_time()
    every = left_out(profiles)
    by = [pl.col("mape", "p95").median().round(4), pl.len().alias("profiles")]
    errors = every.group_by("unseen", "kind").agg(by).sort("unseen", "kind")
    parts = [
        every.filter(unseen=what).group_by(what, "kind").agg(*by, pl.col("bias").median().round(3)).sort(what)
        for what in ("gpu", "model")
    ]
    with pl.Config(tbl_rows=40, tbl_width_chars=120, tbl_hide_dataframe_shape=True):
        print(errors, *parts, sep="\n")
    efficiencies = {name: float(f"{value:.4g}") for name, value in asdict(fitted(profiles)).items()}
    print(json.dumps(efficiencies, indent=1), f"\n{time.process_time() - begin:.0f} s of CPU")
    if parser.parse_args().write:
        about = (
            "benchmarks/roofline.py: efficiencies fitted to the shipped profiles; errors of those left out of the fit"
        )
        found = {"schema_version": "1.0", "about": about, "efficiencies": efficiencies, "errors": errors.to_dicts()}
        TARGET.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
