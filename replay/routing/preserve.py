"""PreServe's router as in its artifact."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import Range, Router


@router
def preserve(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """The least kappa · tokens to prefill + expected tokens (prompt and predicted output) of all requests there.

    params: kappa. An expectation grows by 30 tokens whenever it is outrun. O(log replicas). PreServe's artifact.
    """
    for i in range(replicas.shape[0]):
        scores[i] = params[0] * replicas[i, c.PREFILL_TOKENS] + replicas[i, c.EXPECTED_TOKENS]
    return c.SCORES


ROUTER = Router(
    preserve,
    params={"kappa": 2.0},
    ranges={"kappa": Range()},
    tokens=True,
    weights={c.PREFILL_TOKENS: "kappa", c.EXPECTED_TOKENS: 1.0},
    extend_tokens=30,
)
