"""Results of `vllm bench serve --save-result --save-detailed` (JSON, vllm-project/vllm)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from lmaas.analysis.errors import UserError

from .base import Reading
from .source import Source
from .unfold import Record, values

# parallel arrays, an element a request; `generated_texts` and `queue_times` (waits inside the client) are not read
ARRAYS = ("start_times", "input_lens", "output_lens", "ttfts", "itls", "latencies", "errors")
SUMMARY = "summary of a run, no request"


class VllmBench:
    """A run an object: scalars of the run and, with --save-detailed, parallel arrays over its requests.

    `start_times` are seconds of the client's own clock (perf_counter), `ttfts` and `itls` seconds.
    """

    name = "vllm-bench"
    kinds = ("jsonl",)
    required = ("duration", "completed", "total_input_tokens", "request_throughput")
    fields = ("start_s", "service", "input_tokens", "output_tokens", "ttft_s", "e2e_s", "status")

    def recognises(self, source: Source) -> bool:
        """By the scalars that every run has, with the arrays or without."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """UserError where no run has the arrays, or where the runs are not of one clock."""
        detailed, without_start, ended = 0, 0, -math.inf
        for run in values(source):
            starts = [start for start in _array(run, "start_times") if isinstance(start, (int, float))]
            without_start += not starts and bool(_array(run, "input_lens"))
            if not starts:
                continue
            if min(starts) < ended:
                raise UserError(
                    f"{source.name}: holds runs that overlap in time, so their clocks are not one (each machine, and "
                    "each start of it, has its own); give one run at a time"
                )
            detailed, ended = detailed + 1, max(starts)
        if not detailed:
            raise _refused(source, bool(without_start))
        notes = (f"{detailed} runs one after another, by the clock of the machine that sent them",)
        own = {name: name for name in self.fields if name != "start_s"}
        return Reading("start_s", "s", own, notes=notes if detailed > 1 else ())

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """Element k of every array is the request k; a run without arrays is one row that is no request."""
        arrays = {name: _array(value, name) for name in ARRAYS}
        count = max(map(len, arrays.values()))
        if not count:
            yield Record({key: item for key, item in value.items() if key != "generated_texts"}, aside=SUMMARY)
        for at in range(count):
            row = {name: items[at] for name, items in arrays.items() if at < len(items)}
            yield Record(row, {"service": value.get("model_id"), **_request(row)})


def _array(run: Mapping[str, Any], name: str) -> list[Any]:
    found = run.get(name)
    return found if isinstance(found, list) else []


def _request(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request; the zeros of one that failed, and of a first token never seen, are unknown."""
    ttft, made = row.get("ttfts") or None, row.get("output_lens")
    failed = bool(row.get("errors")) or (not ttft and not made)  # no error's text, but never a token: failed as well
    return {
        "start_s": row.get("start_times"),
        "input_tokens": (row.get("input_lens") or None) if failed else row.get("input_lens"),
        "output_tokens": (made or None) if failed else made,
        "ttft_s": ttft,
        "e2e_s": row.get("latencies") or _last_token(ttft, row.get("itls")),
        "status": "failed" if failed else "ok",
    }


def _last_token(ttft: Any, gaps: Any) -> float | str | None:
    """The time to the last token: that to the first and the gaps between tokens, all of one clock."""
    if ttft is None or not isinstance(gaps, list):
        return None
    try:
        return math.fsum([ttft, *gaps])
    except (TypeError, ValueError, OverflowError):
        return "no numbers"  # for the checks to refuse: only this row is bad, not the run


def _refused(source: Source, lengths: bool) -> UserError:
    if lengths:
        return UserError(
            f"{source.name}: lengths and latencies of a benchmark's requests, but not when each was sent "
            "(start_times): nothing to replay. Newer releases of 'vllm bench serve' write it with --save-detailed"
        )
    return UserError(
        f"{source.name}: a benchmark's summary: rates and latency percentiles of whole runs, no request of its own: "
        "nothing to replay or to characterise. 'vllm bench serve --save-result --save-detailed' writes the requests"
    )
