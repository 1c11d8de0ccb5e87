"""splitwise-sim's requests, and SageServe's, which add to them (CSV, MIT, Mutinifni/splitwise-sim)."""

import polars as pl

from .base import Reading
from .source import Source

TOKENS = {"input_tokens": "prompt_size", "output_tokens": "token_size"}
TIERS = {3: "interactive-fast", 2: "interactive-normal", 1: "batch"}  # by SageServe's `utility`; 0: no deadline at all
NONE = -1  # SageServe's sign for no deadline


class Splitwise:
    """`request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size`, in seconds."""

    name = "splitwise"
    kinds = ("csv",)
    required = ("request_id", "application_id", "arrival_timestamp", "prompt_size", "token_size")

    def recognises(self, source: Source) -> bool:
        """By its columns, where SageServe's are not there."""
        columns = set(source.columns)
        return set(self.required) <= columns and not set(SageServe.required) <= columns

    def read(self, source: Source) -> Reading:
        """An application is a service: the simulator gives each its own instances."""
        return Reading("arrival_timestamp", "s", {"request_id": "request_id", "service": "application_id", **TOKENS})


class SageServe:
    """splitwise-sim's columns with `batch_id,client_tenant,scenario,sla,utility,regions,model_type,workload_type`."""

    name = "sageserve"
    kinds = ("csv",)
    required = (
        *("request_id", "arrival_timestamp", "prompt_size", "token_size"),
        *("client_tenant", "sla", "utility", "regions", "model_type"),
    )

    def recognises(self, source: Source) -> bool:
        """By its columns."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """`regions` stays the text that it is, "012"; an `sla` of -1 is none; `utility` says the tier."""
        sla, utility = (pl.col(name).cast(pl.Float64, strict=False) for name in ("sla", "utility"))
        columns: dict[str, str | pl.Expr] = {
            "request_id": "request_id",
            "service": "model_type",
            "region": "regions",
            "tenant": "client_tenant",
            "tier": utility.replace_strict(TIERS, default=None, return_dtype=pl.String),
            "deadline_s": pl.when((sla != NONE).fill_null(True)).then(pl.col("sla")),
            "priority": "utility",
        }
        return Reading("arrival_timestamp", "s", {**columns, **TOKENS})
