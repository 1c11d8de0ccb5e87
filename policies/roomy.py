"""μ of replicas whose KV caches never fill: whether a load is too much for a fleet, or for its caches."""

from dataclasses import replace

import numpy as np

from .measured import measured_rates
from .prepare import Prepared, training_part
from .whatif import WhatIf


class Roomy:
    """Load tests of the training part's mix as in prepare, made when asked for, once a service."""

    def __init__(self, ready: Prepared) -> None:
        self._ready = ready
        self._found: dict[tuple[str, str], float] = {}

    def needed(self, service: str, lane: str, requests_s: float) -> float:
        """Replicas that this load would need if no cache were ever full: ceil(requests_s / μ)."""
        if (service, lane) not in self._found:
            self._test(service)
        return float(np.ceil(requests_s / self._found[service, lane] - 1e-9))

    def _test(self, service: str) -> None:
        ready = self._ready
        own = tuple(pool for pool in ready.fleet.pools if pool.service == service)
        roomy = WhatIf(unlimited_kv=True).fleet(replace(ready.fleet, pools=own), ready.requests)
        training = training_part(ready.requests, ready.fleet, ready.cut_s)
        mix = training if training.height else ready.requests
        rates, _ = measured_rates(mix, roomy, ready.attain, ready.seed, ready.prefixes, ready.cached)
        self._found |= {where: rate.requests_s for where, rate in rates.items()}
