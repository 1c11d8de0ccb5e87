"""The few parameters that a calibration fits, as logarithms, and the profile they make."""

from dataclasses import dataclass, fields

import numpy as np

from lmaas.replay.profile import Latency, Profile

KNOTS = (0.0, 24.0, 96.0, 384.0)  # tokens: experts are read by then in part, all; compute takes over (GPUs vary)


@dataclass(frozen=True)
class Engine:
    """What the scheduler goes by; replicas of it, and the rule that deals requests to them."""

    max_seqs: int
    max_batch_tokens: int
    kv_tokens: int
    replicas: int = 1
    block: int = 16
    router: str = "least-requests"


@dataclass(frozen=True)
class Coefficients:
    """Seconds; `tokens0` to `tokens3`: the slopes of G between KNOTS. No prefix_kv: chunks hardly show it."""

    base: float
    tokens0: float
    tokens1: float
    tokens2: float
    tokens3: float
    attn_pair: float
    decode_seq: float
    decode_kv: float
    overhead: float

    def vector(self) -> np.ndarray:
        """Logarithms, in the order of the fields."""
        return np.log([getattr(self, f.name) for f in fields(self)])

    @staticmethod
    def of(vector: np.ndarray) -> "Coefficients":
        """The ones with these logarithms."""
        return Coefficients(*(float(v) for v in np.exp(np.clip(vector, -60, 5))))

    def profile(self, engine: Engine, name: str = "calibration") -> Profile:
        """The profile of one replica."""
        latency = Latency(
            base=self.base,
            token_knots=KNOTS,
            token_slopes=(self.tokens0, self.tokens1, self.tokens2, self.tokens3),
            attn_pair=self.attn_pair,
            decode_seq=self.decode_seq,
            decode_kv=self.decode_kv,
        )
        return Profile(
            name=name,
            kv_tokens=max(engine.kv_tokens, engine.block),
            max_batch_tokens=engine.max_batch_tokens,
            max_seqs=engine.max_seqs,
            block=engine.block,
            overhead_s=self.overhead,
            latency=latency,
        )
