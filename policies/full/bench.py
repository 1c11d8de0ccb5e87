"""What replays of one evaluation are made on, in any process: the trace made ready, as it is or otherwise."""

from collections.abc import Callable, Mapping
from typing import Any

from lmaas.analysis.trace import Trace

from ..altered import AS_IT_IS, Altered
from ..inputs import Inputs
from ..prepare import Prepared, prepare
from .kept import Found, Kept


class Bench:
    """The trace and the question, and what is ready of them here; a copy in another process makes that again.

    asked: keywords of `prepare`, which with the same ones makes the same.
    """

    def __init__(self, trace: Trace, asked: Mapping[str, Any], kept: Kept, ready: Prepared, inputs: Inputs) -> None:
        self.trace, self.asked, self.kept = trace, dict(asked), kept
        self._ready: dict[Altered, tuple[Prepared, Inputs]] = {AS_IT_IS: (ready, inputs)}

    def __getstate__(self) -> dict[str, Any]:
        return {"trace": self.trace, "asked": self.asked, "kept": self.kept, "_ready": {}}

    @property
    def base(self) -> tuple[Prepared, Inputs]:
        """(requests and fleet as they are, what policies are told)."""
        return self.altered(AS_IT_IS)

    def altered(self, altered: Altered) -> tuple[Prepared, Inputs]:
        """The same where something of the world is otherwise; the last one asked for is at hand."""
        if altered not in self._ready:
            for old in self._ready.keys() - {AS_IT_IS}:
                del self._ready[old]
            ready = prepare(self.trace, **self.asked, altered=altered)
            self._ready[altered] = ready, Inputs(ready)
        return self._ready[altered]

    def once(self, asked: Mapping[str, Any] | None, make: Callable[[], Found]) -> Found:
        """Kept.once."""
        return self.kept.once(asked, make)
