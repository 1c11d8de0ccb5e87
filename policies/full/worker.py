"""The process that does tasks for a crew: a bench and then tasks come pickled on stdin, answers go to stdout."""

import os
import pickle
import signal
import sys
from contextlib import suppress

from lmaas.analysis.errors import UserError
from lmaas.replay.conservation import ConservationError

from .bench import Bench
from .crew import Task


def main() -> None:
    """Until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends this one
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not print into the answers
    bench: Bench = pickle.load(sys.stdin.buffer)
    with suppress(EOFError, BrokenPipeError):
        while True:
            task: Task[object] = pickle.load(sys.stdin.buffer)
            pickle.dump(_answer(task, bench), answers)
            answers.flush()


def _answer(task: Task[object], bench: Bench) -> tuple[str, object]:
    try:
        return "done", task(bench)
    except (UserError, ConservationError) as error:
        return "failed", error
    except Exception as error:
        return "failed", RuntimeError(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
