"""The replay kernel: jitted steps over arrays, one event order for all pools (docs/replay.md).

Driven by `replay.engine` alone. No policy, no file, no Polars here; what routers may see stands in `replay.columns`.
"""
