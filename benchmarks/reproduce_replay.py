"""One replay of benchmarks/reproduce.py, in a process that keeps the trace it last made ready."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from reproduce_rows import Setting

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies.brought import suited
from lmaas.policies.inputs import Inputs
from lmaas.policies.knobs import knob_of
from lmaas.policies.matched import possible_share
from lmaas.policies.prepare import Prepared, prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import Run, run_policy
from lmaas.policies.search import Try
from lmaas.replay.fleet import DECODE, Fleet
from lmaas.replay.profile import find_profile
from lmaas.replay.slo import parse_slos

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "traces"
KEPT = ROOT / ".lmaas" / "reproduction"
FORTNIGHT = ("--rps", "0.6", "--days", "14", "--seed", "0")


@dataclass(frozen=True)
class Point(Try):
    """One replay, and what the papers report of it; normalised latency: E2E over output tokens.

    tail_hours: GPU-hours after the last arrival. binned_hours: as SageServe's notebook counts them, each pool's most
    replicas of every 15 minutes, without the tail. tiers: by tier (and `interactive`, all but batch) share attained,
    P95 of TTFT, P90 of TTFT and of E2E in s.
    """

    norm_p99_s: float = 0.0
    ttft_p90_s: float = 0.0
    e2e_p90_s: float = 0.0
    wasted_hours: float = 0.0
    usd_month: float | None = None
    replicas_min: float = 0.0
    replicas_max: float = 0.0
    cpu_s: float = 0.0
    decode_hours: float = 0.0
    tail_hours: float = 0.0
    binned_hours: float = 0.0
    tiers: dict[str, list[float]] = field(default_factory=dict)


def trace_file(which: str) -> Path | None:
    """The trace; None: it is not there."""
    if which.startswith("sample"):
        whole = ROOT / "sample_traces" / "sample.parquet"
        return whole if which == "sample" else begun(whole, float(which.split()[1]))
    if which.startswith("azure"):
        path = SHARED / "azure-llm-2023" / f"AzureLLMInferenceTrace_{which.removeprefix('azure-')}.csv"
    else:
        path, resample = KEPT / "fortnight.parquet", SHARED / "servegen" / "resample.py"
        if not path.exists() and resample.exists():
            part = path.with_suffix(".part")
            subprocess.run(
                [sys.executable, str(resample), *FORTNIGHT, "-o", str(part)], check=True, capture_output=True
            )
            part.rename(path)
    return path if path.exists() else None


def begun(trace: Path, hours: float) -> Path:
    """A trace's first hours, as a file of their own."""
    path = KEPT / f"{trace.stem}-{hours:g}h.parquet"
    if not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")  # two processes may make it at once
        pl.scan_parquet(trace).filter(pl.col("arrival_s") < 3600 * hours).sink_parquet(part)
        part.rename(path)
    return path


def profile_of(setting: Setting, folder: Path) -> str | None:
    """The profile's file; None: the defaults of the services."""
    if setting.profile is None:
        return None
    name, changes, decode_kv = setting.profile
    made = find_profile(name).model_dump(mode="json") | dict(changes) | {"name": f"{name}, changed"}
    made["latency"]["decode_kv"] *= decode_kv
    if setting.cold_s is not None:
        made["startup_s"] = setting.cold_s
    path = folder / "profile.json"
    path.write_text(json.dumps(made))
    return str(path)


def fleet_of(setting: Setting, folder: Path) -> Path | None:
    """The fleet's file."""
    if setting.fleet is None:
        return None
    path = folder / "fleet.yaml"
    path.write_text(setting.fleet)
    return path


def lane_hours(run: Run, ready: Prepared) -> float:
    """Provisioned GPU-hours of decode lanes."""
    gpus = {
        (pool.service, pool.region): pool.profile.gpus_per_replica for pool in ready.fleet.pools if pool.lane == DECODE
    }
    rows = run.timeline.filter(pl.col("lane") == DECODE).select("service", "region", "provisioned", "length_s")
    return sum(n * s * gpus[service, region] for service, region, n, s in rows.iter_rows()) / 3600


def binned_hours(run: Run, fleet: Fleet, edges_s: np.ndarray) -> float:
    """GPU-hours where each pool counts in every bin with the most replicas it has there; lent ones are in none."""
    assert run.spans is not None
    hours = 0.0
    for (pool,), part in run.spans.filter(pl.col("state") != "donated").group_by("pool"):
        starts, ends = part["from_s"].to_numpy(), part["to_s"].to_numpy()
        times = np.concatenate([starts, ends, edges_s[:-1]])
        steps = np.concatenate([np.ones(len(starts)), -np.ones(len(ends)), np.zeros(len(edges_s) - 1)])
        order = np.lexsort((steps, times))
        times, counts = times[order], np.cumsum(steps[order])
        bins = np.searchsorted(edges_s, times, side="right") - 1
        inside = (bins >= 0) & (bins < len(edges_s) - 1)
        most = np.zeros(len(edges_s) - 1)
        np.maximum.at(most, bins[inside], counts[inside])
        hours += float(most @ np.diff(edges_s)) / 3600 * fleet.pools[int(pool)].profile.gpus_per_replica
    return hours


def by_tier(rows: pl.DataFrame) -> dict[str, list[float]]:
    """Point.tiers; who never had a token or never ended counts as infinitely late."""
    found = {}
    interactive = rows.filter(pl.col("scored_tier") != "batch")
    for name, part in (*((key, part) for (key,), part in rows.group_by("scored_tier")), ("interactive", interactive)):
        asked = ((part["ttft_s"], 0.95), (part["ttft_s"], 0.9), (part["e2e_s"], 0.9))
        seconds = [float(values.fill_null(np.inf).quantile(share, "higher") or 0.0) for values, share in asked]
        found[str(name)] = [float(part["attained"].mean() or 0.0), *seconds]  # type: ignore[arg-type]
    return found


@lru_cache(maxsize=1)
def readied(setting: Setting) -> tuple[Prepared, Inputs]:
    """The setting's trace, made ready; asked for one after the other."""
    path = trace_file(setting.trace)
    assert path is not None
    with tempfile.TemporaryDirectory() as name:
        trace = open_trace(str(path), Workspace.open(Path(name) / "home"), say=lambda text: None)
        ready = prepare(
            trace, slos=parse_slos(setting.slo), attain=setting.attain, profile=profile_of(setting, Path(name)),
            fleet=fleet_of(setting, Path(name)), train_fraction=setting.train, warmup_s=600.0,
            window_s=setting.window_s, load=setting.load, seed=0,
        )  # fmt: skip
    return ready, Inputs(ready)


def replayed(setting: Setting, text: str, value: float) -> Point:
    """One replay of a policy with its knob at `value`."""
    ready, inputs = readied(setting)
    named = parse_policy(text)
    knob = knob_of(named.policy)
    assert knob is not None
    tuned = replace(named, policy=replace(named.policy, **{knob.name: value}))
    began = time.process_time()
    run = run_policy(tuned, ready, inputs, lambda share: None)
    scores, done = run.scores, run.rows.filter(pl.col("e2e_s").is_not_null())
    norm = (done["e2e_s"] / done["output_tokens"]).quantile(0.99, "higher")
    tiers, edges_s = by_tier(run.rows), np.append(np.arange(ready.cut_s, ready.horizon_s, 900.0), ready.horizon_s)
    attained = min(one[0] for one in tiers.values()) if setting.each_tier else scores["slo_attainment"]
    return Point(
        value, attained, scores["gpu_hours_provisioned"], scores["cost_usd"], scores["starts_denied"],
        norm_p99_s=float(norm or 0.0), ttft_p90_s=scores["ttft_p90_s"], e2e_p90_s=scores["e2e_p90_s"],
        wasted_hours=scores["wasted_startup_hours"], usd_month=scores["usd_per_month"],
        replicas_min=scores["replicas_min"], replicas_max=scores["replicas_max"], cpu_s=time.process_time() - began,
        decode_hours=lane_hours(run, ready), tiers=tiers, tail_hours=scores["gpu_hours_tail"],
        binned_hours=binned_hours(run, suited(ready, tuned.policy)[0].fleet, edges_s),
    )  # fmt: skip


def facts(setting: Setting) -> dict[str, float]:
    """What can be said of a setting without a policy."""
    ready, _ = readied(setting)
    return {"requests": ready.replayed.height, "pools": len(ready.fleet.pools), "possible": possible_share(ready)}
