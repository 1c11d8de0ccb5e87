"""PreServe's router as its paper describes it: the load now and the load to come."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import FARTHEST, Range, Router


@router
def preserve_anticipated(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """The least kappa · tokens to prefill + highest projected KV with this request there, over the KV capacity.

    params: kappa, lookahead (iterations). The map holds what decodes, each request from its first token to its
    predicted last (the paper's anticipator); this request is put into it as if it decoded from now on. The paper says
    that current and anticipated load are combined, not how: the sum is our inference, kappa the artifact's, the
    look-ahead that of the paper's scaling, and what is outlived is predicted anew as everywhere here (the paper: a
    fifth more). O(replicas · lookahead). PreServe (arXiv 2504.03702), section 4.3.
    """
    prompt, answer = request[c.INPUT_TOKENS], request[c.PREDICTED_TOKENS]
    for i in range(replicas.shape[0]):
        peak = 0.0
        for j in range(ahead.shape[1]):
            own = prompt + j if j < answer else 0.0
            peak = max(peak, ahead[i, j] + own)
        scores[i] = (params[0] * replicas[i, c.PREFILL_TOKENS] + peak) / replicas[i, c.KV_CAPACITY_TOKENS]
    return c.SCORES


ROUTER = Router(
    preserve_anticipated,
    params={"kappa": 2.0, "lookahead": 100.0},
    ahead="lookahead",
    ranges={"kappa": Range(), "lookahead": Range(1, FARTHEST, whole=True)},
)
