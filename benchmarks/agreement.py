"""Agreement with the field and speed on its fixed workload: `.venv/bin/python benchmarks/agreement.py [--shared DIR]`.

Azure conversation 2023 (19,366 requests), Llama-2-70B fp16 on 8 x (2 x A100-80GB), round robin, beside splitwise-sim
(with its KV size corrected for grouped queries) and Vidur, which were measured on the same workload. Needs the trace
and the step times, which are not in the repository (see `fixed_workload.py`).
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from fixed_workload import (
    KV_BYTES,
    KV_SPLITWISE,
    KV_VLLM,
    TRACE,
    Fit,
    as_measured,
    as_splitwise,
    interpolated,
    latencies,
    read_by_tokens,
    replay,
    step_times,
    workload,
)
from splitwise import Steps
from splitwise import replay as replay_splitwise

from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Profile, find_profile

ROOT = Path(__file__).resolve().parent.parent
PROGRAM, COMMAND = ROOT / "benchmarks/read_to_results.py", Path(sys.executable).with_name("lmaas")
FIGURES = ("TTFT p50", "p99", "TPOT p50", "p99", "E2E p50", "p99")
FAST = "llama-3.1-8b/h100/tp1"
BOUNDS = np.array([0.10, 0.20] * 3)  # of p50 and of p99
# measured on this workload, 2026-11-20, 2 cores, one run each; s, in the order of FIGURES
SPLITWISE = np.array([0.474, 2.057, 0.0714, 0.1860, 10.98, 53.6])  # 8f99e7d, TP2, round robin, KV by grouped queries
VIDUR = np.array([0.429, 2.000, 0.0845, 0.2186, 12.96, 65.0])  # 7d47513, TP2, round robin, its vLLM scheduler
# requests per CPU second (user + system, start-up to results written), by replicas
PEER_SPEED = {
    8: {"Dynamo replay 1.4.2": 5250, "BLIS f90a1e3": 1369, "splitwise-sim, KV corrected": 1013, "Vidur, vllm": 438},
    1: {"Dynamo replay 1.4.2": 12260},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder of traces/ and profiles/")
    parser.add_argument("--runs", type=int, default=5, help="of each timing; the median is printed")
    given = parser.parse_args()
    machine()
    requests, fits = workload(given.shared), (as_splitwise(given.shared), as_measured(given.shared))
    inputs(requests, fits)
    agreement(requests, fits)
    bridge(requests, fits, given.shared)
    speed(requests, fits[0].profile, given.shared, given.runs)
    growth(fits[0].profile, given.shared, given.runs)


def machine() -> None:
    """Where and with what."""
    cpu = next((s.split(":")[1].strip() for s in _lines("/proc/cpuinfo") if s.startswith("model name")), "unknown CPU")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("lmaas", "numba", "numpy", "polars", "scipy"))
    print(f"{date.today()}; {cpu}, {os.cpu_count()} cores; {platform.platform()}")
    print(f"Python {platform.python_version()}, {libraries}")


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def inputs(requests: Requests, fits: Sequence[Fit]) -> None:
    """What is replayed, with what."""
    n, span = len(requests.arrival_s), requests.arrival_s[-1]
    print(f"\nworkload: {n:,} requests in {span:,.1f} s, mean {requests.input_tokens.mean():,.0f} prompt (clipped) and "
          f"{requests.output_tokens.mean():,.0f} output tokens\nKV: {KV_BYTES:,} bytes a token = 2 x 80 layers x 8 KV "
          f"heads x 128 x 2; {KV_SPLITWISE:,} tokens a replica as splitwise-sim has it = (2 x 85,899,345,920 - "
          f"135e9) / {KV_BYTES:,};\n    {KV_VLLM:,} as vLLM would = 2 x (0.9 x 85,899,345,920 - 68,976,648,192 - 2.5e9)"
          f" / {KV_BYTES:,}")  # fmt: skip
    for fit in fits:
        size = np.abs(fit.error)
        print(f"{fit.profile.name}: mean error on its rows {size.mean():.1%}, worst {size.max():.1%}\n"
              f"    {fit.profile.latency}")  # fmt: skip


# --- agreement ---


def agreement(requests: Requests, fits: Sequence[Fit]) -> None:
    """Both profiles beside both peers, each figure with its ratio and whether it is inside the bound."""
    print("\nAGREEMENT, s; bound 10 % at p50, 20 % at p99")
    header()
    row("splitwise-sim (GQA)", SPLITWISE)
    row("Vidur, vllm", VIDUR)
    for fit in fits:
        found = replay(requests, fit.profile, 8)
        row(f"lmaas, {fit.profile.name.split(', ')[1]}", found.seconds)
        for peer, name in ((SPLITWISE, "splitwise-sim"), (VIDUR, "Vidur")):
            verdicts(f"  / {name}", found.seconds / peer)


def header() -> None:
    """Column names."""
    print(f"{'':<72}" + "".join(f"{name:>10}" for name in FIGURES))


def row(name: str, seconds: np.ndarray) -> None:
    """One row of six latencies."""
    print(f"{name:<72}" + "".join(f"{x:>10.4g}" for x in seconds))


def verdicts(name: str, ratios: np.ndarray) -> None:
    """Ratios; an asterisk where one is out of its bound."""
    marks = ["" if abs(r - 1) <= bound else "*" for r, bound in zip(ratios, BOUNDS, strict=True)]
    print(f"{name:<72}" + "".join(f"{f'{r:.3f}{m}':>10}" for r, m in zip(ratios, marks, strict=True))
          + f"   {marks.count('')} of 6 inside")  # fmt: skip


def bridge(requests: Requests, fits: Sequence[Fit], shared: Path) -> None:
    """From splitwise-sim's rules to ours, one difference at a time; then the choices we had."""
    print("\nTHE DIFFERENCE, one step at a time (splitwise-sim's rules rewritten, then ours)")
    header()
    row("splitwise-sim (GQA), as published", SPLITWISE)
    table, (theirs, measured) = read_by_tokens(step_times(shared)), fits
    prompts, decodes = memo(interpolated(table, "prompt_s")), memo(interpolated(table, "token_s"))
    by_batch = memo(lambda b: measured.profile.latency.base + float(measured.profile.latency.token_s(int(b))[-1])
                    + measured.profile.latency.decode_seq * b)  # fmt: skip
    for name, steps in (
        ("its rules", Steps(prompts, decodes, lambda n, b: 1.1 * prompts(n))),
        ("its rules, prompts + decodes in one step not x 1.1", Steps(prompts, decodes, lambda n, b: prompts(n))),
        ("its rules, decode of b as b was measured", Steps(prompts, by_batch, lambda n, b: 1.1 * prompts(n))),
    ):
        first_s, done_s, most = replay_splitwise(
            requests.arrival_s, requests.input_tokens, requests.output_tokens, 8, steps
        )
        row(f"{name} (KV held: {most:,})", latencies(requests, first_s, done_s).seconds)
        if name == "its rules":
            each(requests, theirs.profile, first_s, done_s)
    for fit in (theirs, measured):
        kind = fit.profile.name.split(", ")[1].removeprefix("read ")
        for tokens in (2048, 4096, 8192):
            changed = fit.profile.model_copy(update={"max_batch_tokens": tokens})
            row(f"ours, {kind}, {tokens:,} tokens a batch", replay(requests, changed, 8).seconds)
        small = replay(requests, fit.profile.model_copy(update={"kv_tokens": KV_VLLM}), 8)
        row(f"ours, {kind}, KV {KV_VLLM:,} ({small.preemptions} preempted)", small.seconds)
    # one sequence decodes in 60 ms in the sweep of answer lengths, in 55 in that of prompts; batch 32's end-to-end
    # time is more than the sum of its steps
    for name, only in (("answers of 128", pl.col("token_size") == 128), ("batches to 16", pl.col("batch_size") <= 16)):
        row(f"ours, as measured, fitted to {name} only", replay(requests, as_measured(shared, only).profile, 8).seconds)


def each(requests: Requests, profile: Profile, first_s: np.ndarray, done_s: np.ndarray) -> None:
    """Request by request, ours over theirs."""
    ours = Replay(requests, Fleet((Pool("llama-2-70b", "default", profile),)), [8], "round-robin").run()
    for name, mine, other in (("TTFT", ours.first_s, first_s), ("E2E", ours.done_s, done_s)):
        a, b = mine - requests.arrival_s, other - requests.arrival_s
        p10, p50, p90 = np.quantile(a / b, [0.1, 0.5, 0.9])
        print(f"    {name} of each request, ours / its rules: p10 {p10:.3f}, p50 {p50:.3f}, p90 {p90:.3f}, "
              f"correlation {np.corrcoef(a, b)[0, 1]:.3f}")  # fmt: skip


def memo(function: Callable[[float], object]) -> Callable[[int], float]:
    """Remember a step time: an interpolation costs 20 us."""
    return cache(lambda n: float(function(n)))  # type: ignore[arg-type]


# --- speed ---


def speed(requests: Requests, profile: Profile, shared: Path, runs: int) -> None:
    """Requests per CPU second: the kernel alone, a library program from start to file, and the whole command."""
    n = len(requests.arrival_s)
    print(f"\nREQUESTS PER CPU-SECOND (user + system; median of {runs}, lowest, highest)")
    kernel(requests, profile, 8)  # loads the compiled code
    with tempfile.TemporaryDirectory() as folder:
        trace, shape = Path(folder) / "trace.parquet", Path(folder) / "profile.json"
        columns = {name: getattr(requests, name) for name in ("arrival_s", "input_tokens", "output_tokens")}
        pl.DataFrame(columns).write_parquet(trace)
        shape.write_text(profile.model_dump_json())
        for replicas in (8, 1):
            rate(f"kernel alone, {replicas} replicas", n, [kernel(requests, profile, replicas) for _ in range(runs)])
            program = [sys.executable, PROGRAM, shared / TRACE, shape, replicas, f"{folder}/out.parquet"]
            rate(f"read to results, library, {replicas}", n, [child(program, folder) for _ in range(runs)])
            whole = [COMMAND, "evaluate", trace, "--policy", f"static(replicas={replicas})", "--baseline", "none",
                     "--train-fraction", "0", "--router", "round-robin", "--profile", shape, "--requests-out",
                     f"{folder}/all.parquet"]  # fmt: skip
            rate(f"`lmaas evaluate` with its report, {replicas}", n, [child(whole, folder) for _ in range(runs)])
            for name, peer in PEER_SPEED[replicas].items():
                print(f"  {name + f', {replicas} replicas':<52}{peer:>12,.0f}")
        # all of it on one 70B replica is far above what that serves; Dynamo's row is of a faster engine
        program = [sys.executable, PROGRAM, shared / TRACE, FAST, 1, f"{folder}/out.parquet"]
        rate(f"kernel alone, 1 replica of {FAST}", n, [kernel(requests, find_profile(FAST), 1) for _ in range(runs)])
        rate(f"read to results, 1 replica of {FAST}", n, [child(program, folder) for _ in range(runs)])


def growth(profile: Profile, shared: Path, runs: int) -> None:
    """The cost of a request as requests and replicas grow together, at one load a replica."""
    print("\nTHE SAME LOAD A REPLICA, kernel alone, requests per CPU-second")
    for copies in (1, 5, 25):
        requests = workload(shared, copies)
        for router in ("round-robin", "least-requests"):
            seconds = [kernel(requests, profile, 8 * copies, router) for _ in range(runs)]
            rate(f"{copies} x the trace on {8 * copies}, {router}", len(requests.arrival_s), seconds)


def rate(name: str, n: int, seconds: Sequence[float]) -> None:
    """One line: requests per CPU second."""
    print(f"  {name:<52}{n / np.median(seconds):>12,.0f}   {n / max(seconds):,.0f} to {n / min(seconds):,.0f}")


def kernel(requests: Requests, profile: Profile, replicas: int, router: str = "round-robin") -> float:
    """CPU seconds of one replay."""
    run = Replay(requests, Fleet((Pool("llama-2-70b", "default", profile),)), [replicas], router)
    began = time.process_time()
    run.run()
    return time.process_time() - began


def child(command: Sequence[object], home: str) -> float:
    """CPU seconds of a program, in a workspace of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"LMAAS_HOME": tempfile.mkdtemp(dir=home)}
    subprocess.run([str(word) for word in command], check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
