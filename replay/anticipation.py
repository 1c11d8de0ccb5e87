"""What a policy sees of the KV to come: PreServe's load anticipator, a map for every replica."""

import math
from dataclasses import dataclass

from .routers import FARTHEST

PAPER, ARTIFACT, EXPECTED = "paper", "artifact", "expected"
# (share of the prediction, tokens) that a request is given which outlived it, once it is late by so many tokens
LATE = {PAPER: (0.2, 0, 0), ARTIFACT: (0.0, 30, 10), EXPECTED: (0.0, 0, 0)}


@dataclass(frozen=True)
class Anticipation:
    """How far a policy looks ahead, and how the map treats requests that outlive their prediction D.

    iterations: 0: it asks for no map. extension: `paper`: another 0.2·D, again and again; `artifact`: 30 tokens, once
    it is 10 late, until when it is not in the map; `expected`: as outstanding tokens grow in this replay, by the rest
    that is expected of it or by what the router says. ValueError for what cannot be.

    The map (PreServe, arXiv 2504.03702, section 4.3.1): a request whose prefill completes adds prompt + i tokens to
    slot i, for D slots; every iteration takes the first slot off; what ends early takes its slots along.
    """

    iterations: int = 0
    extension: str = PAPER

    def __post_init__(self) -> None:
        n = self.iterations
        if isinstance(n, bool) or not math.isfinite(n) or n != int(n) or not 0 <= n <= FARTHEST:
            raise ValueError(f"looks {n} iterations ahead; a whole number from 0 to {FARTHEST:,}")
        if self.extension not in LATE:
            raise ValueError(f"extension is {self.extension!r}; there are {', '.join(LATE)}")


NO_ANTICIPATION = Anticipation()
