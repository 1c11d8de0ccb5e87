"""Sustainable rates of prefill and decode lanes: each load-tested by its part of the limits."""

from dataclasses import replace

import numpy as np

from lmaas.analysis.errors import Exit, UserError

from .fleet import DECODE, PREFILL, Fleet, Pool
from .profile import Profile
from .rates import SAMPLE, Bench, Mix, Rates, holds, search, sustainable_rates

FEED = 1.5  # a decode lane is tested behind a prefill lane this many times as large as it needs to be


def lane_rates(
    prefill: Profile, decode: Profile, mix: Mix, attain: float, bandwidth_gb_s: float, lag_s: float = 0.0, seed: int = 0
) -> tuple[Rates, Rates]:
    """What one replica of a prefill lane and one of its decode lane sustain, each judged by its part of the limits.

    Prefill: prompts alone, by TTFT (and E2E, as far as they fill it). Decode: TPOT and E2E, transfers included, without
    prefix caches. Each may miss half of what `attain` allows, so that both together attain it. bandwidth_gb_s: of
    transfers; lag_s: network latency between the two.
    """
    share = 1 - (1 - attain) / 2
    if not (mix.output_tokens > 1).any():
        raise UserError("lanes: no request of the training part has an output of over 1 token to decode", Exit.CONFIG)
    prompts = replace(mix, output_tokens=np.ones_like(mix.output_tokens))
    first = sustainable_rates(prefill, prompts, share, seed)
    rest = replace(mix, prefix=None, ttft_s=np.full(len(mix.group), np.inf)).sample(SAMPLE, seed)
    pools = (Pool("load-test", "a", prefill, PREFILL), Pool("load-test", "b", decode, DECODE))
    fleet = Fleet(pools, ("a", "b"), ((0.0, lag_s), (lag_s, 0.0)), kv_bandwidth_gb_s=bandwidth_gb_s)
    ttft_s, _ = prefill.alone_s(rest.input_tokens, rest.output_tokens)
    own_ttft_s, own_e2e_s = decode.alone_s(rest.input_tokens, rest.output_tokens)
    transfer_s = lag_s + rest.input_tokens * ((prefill.kv_bytes_per_token or 0) / (bandwidth_gb_s * 1e9))
    travels = rest.output_tokens > 1
    e2e_s = ttft_s + np.where(travels, transfer_s + own_e2e_s - own_ttft_s, 0.0)
    fits = holds(prefill, rest.input_tokens) & (holds(decode, rest.input_tokens + rest.output_tokens - 1) | ~travels)
    return first, search(Bench(fleet, rest, ttft_s, e2e_s, fits, FEED / first.requests_s), share, seed)
