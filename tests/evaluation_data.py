"""An evaluation made up for the tests of reports and command line, as `lmaas.policies.evaluate` would give it."""

import io
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from lmaas.analysis.trace import SCHEMA, TraceMeta
from lmaas.policies.results import Evaluation
from lmaas.reports.report import evaluation_report
from lmaas.reports.terminal import show

HOSTILE = "<script>alert(1)</script>"
ROLES = {
    "preserve": "policy",
    "hpa": "policy",
    "static-peak": "baseline",
    "last-value": "baseline",
    "oracle": "bound",
}
ATTAINED = [0.9921, 0.9755, 0.9998, 0.983, 0.9988]
GPU_HOURS = [412.3, 455.1, 760.4, 441.0, 384.2]
HOUR = 3600.0
START = 48 * HOUR


def meta(**changes: Any) -> TraceMeta:
    fields = {
        "trace_id": "9f3ac1d2e4b5a697",
        "name": "week",
        "source": "week.parquet",
        "format": "canonical",
        "epoch": datetime(2026, 11, 9, tzinfo=UTC),
        "epoch_kind": "known",
        "time_unit": "s",
        "quantum_s": 0.0,
        "block_size": None,
        "rows_read": 1000,
        "rows_kept": 998,
        "rows_set_aside": {"negative tokens": 2},
        "span_s": 2 * START,
        "columns": list(SCHEMA),
        "notes": [],
    }
    return TraceMeta(**(fields | changes))


def scores(roles: dict[str, str] = ROLES, **changes: list[Any]) -> pl.DataFrame:
    n = len(roles)
    hours = [GPU_HOURS[i % 5] for i in range(n)]
    columns: dict[str, Any] = {
        "policy": list(roles),
        "role": list(roles.values()),
        "foresight": [role == "bound" for role in roles.values()],
        "gpu_hours_provisioned": hours,
        "gpu_hours_active": hours,
        "gpu_hours_tail": [0.4] * n,
        "gpu_hours_donated": [0.0] * n,
        "cost_usd": [2.69 * h for h in hours],
        "usd_per_month": [40.0 * h for h in hours],
        "slo_attainment": [ATTAINED[i % 5] for i in range(n)],
        "goodput_rps": [3.4] * n,
        "goodput_tok_s": [900.0] * n,
        "arrived": [60_000] * n,
        "completed": [59_990] * n,
        "rejected": [10] * n,
        "abandoned": [0] * n,
        "incomplete": [0] * n,
        "not_sent": [0] * n,
        "outside_windows": [0] * n,
        "not_replayed": [3] * n,
    }
    for name, base in (("ttft", 0.2), ("tpot", 0.03), ("e2e", 6.0)):
        for quantile, times in (("p50", 1), ("p90", 2), ("p95", 3), ("p99", 6)):
            columns[f"{name}_{quantile}_s"] = [base * times] * n
        columns[f"n_{name}"] = [59_990] * n
    columns |= {
        "scale_actions": [12] * n,
        "wasted_startup_hours": [0.1] * n,
        "utilisation": [0.6] * n,
        "worst_hour_attainment": [0.9] * n,
        "worst_hour_start_s": [START] * n,
        "preemptions": [5] * n,
        "prefix_hit_share": [0.12] * n,
        "forecast_wape": [0.08] * n,
        "length_mae_tokens": [80.0] * n,
        "regret": [h / 384.2 - 1 for h in hours],
        "starts_denied": [0] * n,
        "starts_denied_down": [0] * n,
        "replicas_min": [4.0] * n,
        "replicas_max": [13.25] * n,
    }
    return pl.DataFrame(columns | changes)


def timeline_of(
    policy: str, pool: tuple[str, str | None], start: np.ndarray, window: float, needed: np.ndarray, need: np.ndarray
) -> pl.DataFrame:
    """One policy's windows in one (service, region); active: enough for all of `need`."""
    arrived = np.round(needed * 100).astype(int)
    names = {"policy": policy, "service": pool[0], "region": pool[1], "lane": "shared"}
    return pl.DataFrame({"start_s": start}).with_columns(
        *(pl.lit(value, pl.String).alias(name) for name, value in names.items()),
        length_s=pl.lit(window),
        needed=pl.Series(needed),
        active=pl.Series(np.ceil(need)),
        provisioned=pl.Series(np.ceil(need) + 0.5),
        arrived=pl.Series(arrived),
        attained=pl.Series((arrived * 0.99).astype(int)),
    )


def forecast_of(
    policy: str, pool: tuple[str, str | None], start: np.ndarray, actual: np.ndarray, off: float
) -> pl.DataFrame:
    """What one policy was told of one (service, region): the truth times `off`."""
    return pl.DataFrame({"start_s": start, "actual": actual, "forecast": actual * off}).with_columns(
        policy=pl.lit(policy),
        service=pl.lit(pool[0]),
        origin=pl.lit(pool[1] or "default"),
        metric=pl.lit("total_tokens"),
    )


def groups_of(policies: Iterable[str], services: tuple[str, ...]) -> pl.DataFrame:
    """Attainment of all, by tier and by service."""
    groups = {"all": ("all",), "tier": ("batch", "interactive-fast"), "service": services}
    return pl.DataFrame(
        [
            {"policy": policy, "group": group, "name": name, "n": 100 - k, "slo_attainment": 1 - k / 50}
            for policy in policies
            for group, names in groups.items()
            for k, name in enumerate(names)
        ]
    )


def histogram_of(policies: Iterable[str]) -> pl.DataFrame:
    """A hundred latencies of each kind."""
    return pl.concat(
        pl.DataFrame({"le": [0.1, 1.0, 10.0], "count": [50, 45, 5]}).with_columns(
            policy=pl.lit(policy), metric=pl.lit(metric)
        )
        for policy in policies
        for metric in ("ttft_s", "tpot_s", "e2e_s")
    )


def evaluation(
    roles: dict[str, str] = ROLES,
    services: tuple[str, ...] = ("chat", "code"),
    regions: tuple[str | None, ...] = ("us", "eu"),
    hours: float = 24,
    window: float = 600.0,
    **changes: Any,
) -> Evaluation:
    """An evaluation of a daily wave, as `lmaas.policies.evaluate` would give it."""
    pools = [(service, region) for service in services for region in regions]
    start = START + np.arange(round(hours * HOUR / window)) * window
    need = 6 + 4 * np.sin(start / 86_400 * 2 * math.pi)
    lines = [
        timeline_of(policy, pool, start, window, need / (services.index(pool[0]) + 1), need)
        for policy in roles
        for pool in pools
    ]
    told = [
        forecast_of(policy, pool, start, need, 1.1 + i / 10)
        for i, (policy, role) in enumerate(roles.items())
        if role != "bound"
        for pool in pools
    ]
    fields = {
        "trace": meta(),
        "settings": {
            "window_s": window,
            "cut_s": START,
            "start_s": START - 600,
            "end_s": START + hours * HOUR,
            "attain": 0.99,
            "slos": [{"service": s, "tier": "batch", "thresholds": "e2e<86400s"} for s in services],
            "pools": [described(f"{s}/{r or 'default'}/shared") for s in services for r in regions],
            "rates": [
                {"service": s, "lane": "shared", "requests_s": 1.5, "mean_running": 12.0, "alone_attainment": 1.0}
                for s in services
            ],
            "seed": 0,
        },
        "notes": ("Default SLOs are in effect.",),
        "failures": {},
        "scores": scores(roles),
        "groups": groups_of(roles, services),
        "timeline": pl.concat(lines),
        "forecasts": pl.concat(told) if told else FORECASTS.clear(),
        "histogram": histogram_of(roles),
        "gates": GATES.clear(),
        "requests": dict.fromkeys(roles, REQUESTS),
        "exit_code": 0,
    }
    return Evaluation(**(fields | changes))


def texts(found: Evaluation) -> str:
    """The whole report of an evaluation as a terminal shows it, one space between words."""
    written = io.StringIO()
    screen = Console(file=written, width=400, color_system=None)
    show(evaluation_report(found, ["lmaas"], "run"), screen, everything=True)
    return " ".join(written.getvalue().split())


PROFILE = {
    "profile": "llama-3.1-8b/h100/tp1",
    "provenance": "fitted",
    "error": {"mape": 0.019, "p95": 0.06},
    "gpu": "H100-SXM-80GB",
    "gpus_per_replica": 1,
    "usd_per_gpu_hour": 2.69,
    "startup_s": {"cold": 120.0, "warm": 60.0, "swap": 90.0, "cv": 0.4},
}


def described(name: str, *mixed: dict[str, Any]) -> dict[str, Any]:
    """A pool as `lmaas.replay.fleet.describe` tells it; mixed: `replicas` and what else differs from PROFILE."""
    beside = [{**PROFILE, **other} for other in mixed]
    return {"pool": name, **PROFILE, "initial": None, "mixed": beside, "minimum": 1, "maximum": None}


FORECASTS = pl.DataFrame(
    schema={
        "policy": pl.String,
        "start_s": pl.Float64,
        "service": pl.String,
        "origin": pl.String,
        "metric": pl.String,
        "actual": pl.Float64,
        "forecast": pl.Float64,
    }
)
GATES = pl.DataFrame(
    {
        "gate": ["slo_attainment>=0.99", "gpu_hours_provisioned<400"],
        "kind": ["gate", "gate"],
        "policy": ["preserve", "preserve"],
        "value": [0.9921, 412.3],
        "threshold": [0.99, 400.0],
        "passed": [True, False],
    }
)
REQUESTS = pl.DataFrame(
    {
        "request_id": ["a", "b"],
        "service": ["chat", "chat"],
        "status": ["ok", "rejected"],
        "pool": ["chat/us/shared"] * 2,
        "replica": [0, None],
        "arrival_s": [1.0, 2.0],
        "network_s": [0.0, None],
        "hold_s": [0.0, None],
        "queue_s": [0.1, None],
        "ttft_s": [0.5, None],
        "tpot_s": [0.02, None],
        "e2e_s": [1.5, None],
        "preemptions": [0, 0],
        "cached_tokens": [None, None],
    }
)
