"""Sources that count requests without telling any of them: recognised, and refused with what they can and cannot give.

Told by their shape, like formats; only where no format claims the source, and never where the user maps columns.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmaas.analysis.errors import UserError

LINES = 50  # of the head, by which text is told
HELP = re.compile(r"# (HELP|TYPE|UNIT|EOF)\b")
SAMPLE = re.compile(r"[A-Za-z_:][\w:]*(\{.*\})?[ \t]+[-+]?(\d[\d.eE+-]*|Inf|NaN)([ \t]+-?[\d.]+)?([ \t]+#.*)?")
NUMBER = re.compile(r"[-+]?\d[\d.eE+-]{0,40}")
DISTRIBUTIONS = ("Gamma", "Weibull", "")  # ServeGen's, of the times between requests; none where a client is idle
ACTIVITY = (  # as the API and the page write it, and as the SDK does
    {"date", "model", "requests", "prompt_tokens", "completion_tokens"},
    {"date", "model", "requests", "promptTokens", "completionTokens"},
)
SERIES = {"prompt_throughput", "gen_throughput", "running", "waiting", "kv_cache_pct"}
LOGS = "Requests are in the gateway's log or in traces (OpenTelemetry) of the same time"


@dataclass(frozen=True)
class Aggregate:
    """A kind of source without requests."""

    what: str
    gives: str
    instead: str

    def refused(self, name: str) -> UserError:
        """The error for such a source."""
        lacks = "but no request's arrival and lengths: nothing to characterise or to replay"
        return UserError(f"{name}: {self.what}. It gives {self.gives}, {lacks}. {self.instead}")


SCRAPE = Aggregate(
    "a Prometheus scrape",
    "counters, gauges and latency histograms of a server at one instant",
    f"{LOGS}; 'lmaas synth' draws requests at a rate",
)
RANGE = Aggregate(
    "the answer to a Prometheus query",
    "rates, gauges and quantiles over time (counters begin again at 0 when a server restarts)",
    f"{LOGS}; 'lmaas synth' draws requests at a rate",
)
USAGE = Aggregate(
    "OpenAI's usage API", "tokens and requests a minute, an hour or a day, by model and project", f"{LOGS}"
)
OPENROUTER = Aggregate(
    "OpenRouter's activity",
    "tokens, requests and cost a day, by model and provider",
    "Its generations, one a request, can be read: by its API, or the CSV that its logs export",
)
ENGINE = Aggregate(
    "a series of an engine's throughput", "running and waiting requests and tokens a second over time", f"{LOGS}"
)
STAGES = Aggregate(
    "inference-perf's summary",
    "rates and latency percentiles of whole stages",
    "Its per_request_lifecycle_metrics.json has the requests (report: request_lifecycle: per_request: true)",
)
AIPERF = Aggregate(
    "AIPerf's summary", "statistics of every metric over a whole run", "Its profile_export.jsonl has the requests"
)
CLIENTS = Aggregate(
    "ServeGen's client statistics",
    "rates, burstiness and length distributions of clients",
    "Give their folder to 'lmaas synth --servegen' to draw requests from them",
)


def refuse_text(name: str, head: str) -> None:
    """UserError where the head of a text that is no JSON is that of an aggregate; before it is taken for a CSV."""
    lines = head.split("\n")[:LINES]
    lines = [line.strip() for line in (lines[:-1] or lines) if line.strip()]  # the last may be cut
    known = any(map(HELP.match, lines)) or any("{" in line for line in lines)
    if lines and known and all(line.startswith("#") or SAMPLE.fullmatch(line) for line in lines):
        raise SCRAPE.refused(name)
    if lines and all(map(_is_client_window, lines)):
        raise CLIENTS.refused(name)


def refuse(name: str, columns: Sequence[str], samples: Sequence[Mapping[str, Any]]) -> None:
    """UserError where columns or the first JSON objects are those of an aggregate."""
    if _counts_days(columns):
        raise OPENROUTER.refused(name)
    if set(columns) >= SERIES:
        raise ENGINE.refused(name)
    for fits, aggregate in SHAPES:
        if samples and all(map(fits, samples)):
            raise aggregate.refused(name)


def _is_client_window(line: str) -> bool:
    """`t_s,rate_rps,cv,distribution,param1,param2`: a file of ServeGen's has no header."""
    fields = line.split(",")
    return len(fields) == 6 and fields.pop(3) in DISTRIBUTIONS and all(map(_is_number, fields))


def _is_number(text: str) -> bool:
    return not text or NUMBER.fullmatch(text) is not None


def _is_query(value: Mapping[str, Any]) -> bool:
    data = value.get("data")
    answer = isinstance(data, dict) and "resultType" in data
    # a series of it alone: [second, "value"], or a list of these
    return answer or (
        isinstance(value.get("metric"), dict) and isinstance(value.get("values", value.get("value")), list)
    )


def _is_usage(value: Mapping[str, Any]) -> bool:
    buckets = value.get("data") if value.get("object") == "page" else [value]
    return isinstance(buckets, list) and any(isinstance(b, dict) and b.get("object") == "bucket" for b in buckets)


def _counts_days(columns: Iterable[str]) -> bool:
    """Requests a day, in one of the spellings: no generation has both."""
    return any(day <= set(columns) for day in ACTIVITY)


def _is_activity(value: Mapping[str, Any]) -> bool:
    days = value.get("data")
    return isinstance(days, list) and any(isinstance(day, dict) and _counts_days(day) for day in days)


def _is_stage(value: Mapping[str, Any]) -> bool:
    return value.keys() >= {"load_summary", "successes", "failures"}


def _is_aiperf(value: Mapping[str, Any]) -> bool:
    rate = value.get("request_throughput")
    return isinstance(rate, dict) and {"unit", "avg"} <= rate.keys()


def _is_lengths(value: Mapping[str, Any]) -> bool:
    """ServeGen's `chunk-N-dataset.json`: seconds -> distributions, each as a text."""
    return bool(value) and all(
        second.isdecimal() and isinstance(window, dict) and isinstance(window.get("input_tokens"), str)
        for second, window in value.items()
    )


SHAPES: tuple[tuple[Callable[[Mapping[str, Any]], bool], Aggregate], ...] = (
    (_is_query, RANGE),
    (_is_usage, USAGE),
    (_is_activity, OPENROUTER),
    (_is_stage, STAGES),
    (_is_aiperf, AIPERF),
    (_is_lengths, CLIENTS),
)
