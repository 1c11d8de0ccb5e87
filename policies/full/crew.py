"""Tasks of many replays, done in this process or by several: the same results in the same order."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Lock
from typing import IO, Any, Generic, Protocol, TypeVar

from lmaas.analysis.errors import Exit, UserError

from .bench import Bench

WORKER = "lmaas.policies.full.worker"
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Task(Protocol, Generic[Result_co]):
    """Something to be replayed, which can be pickled, and what comes of it, too."""

    def __call__(self, bench: Bench) -> Result_co:
        """Do it."""


class Crew:
    """Up to `jobs` processes that do tasks on one bench, started when needed; a context, whose end ends them.

    A policy's Python holds the interpreter's lock, so threads would wait for each other.
    """

    def __init__(self, bench: Bench, jobs: int) -> None:
        self.bench, self.jobs = bench, jobs
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._all: list[subprocess.Popen[bytes]] = []
        self._lock = Lock()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._all:
            child.kill()
            child.communicate()

    def each(self, tasks: Sequence[Task[Result]], say: Callable[[float], None]) -> list[Result]:
        """What comes of every task, in their order; say: the share that is done."""
        say(0.0)
        done = 0

        def one(task: Task[Result], run: Callable[[Task[Result]], Result]) -> Result:
            nonlocal done
            found = run(task)
            with self._lock:
                done += 1
                say(done / len(tasks))
            return found

        if min(self.jobs, len(tasks)) <= 1:
            return [one(task, lambda task: task(self.bench)) for task in tasks]
        pool = ThreadPoolExecutor(max_workers=self.jobs)
        try:
            waiting = [pool.submit(one, task, self._ask) for task in tasks]
            return [future.result() for future in waiting]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # first: else a thread goes on to the next task
            for child in self._all:
                child.kill()  # else what runs would be waited for
            raise
        finally:
            pool.shutdown()

    def _ask(self, task: Task[Result]) -> Result:
        try:
            child = self._idle.get_nowait()
        except Empty:
            child = self._start()
        try:
            _send(child.stdin, task)
            answer = pickle.load(child.stdout)  # type: ignore[arg-type]
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise UserError(
                "a process that replays ended before its time, for want of memory perhaps: --jobs 1 takes least; "
                "what is finished is kept, and the same command goes on from there", Exit.ENVIRONMENT,
            ) from None  # fmt: skip
        self._idle.put(child)
        kind, value = answer
        if kind == "failed":
            raise value
        return value  # type: ignore[no-any-return]

    def _start(self) -> "subprocess.Popen[bytes]":
        # -P: a file of the folder one works in is not meant
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ.copy()
        )
        with self._lock:
            self._all.append(child)
        _send(child.stdin, self.bench)
        return child


def cores() -> int:
    """How many this process may use."""
    may = getattr(os, "sched_getaffinity", None)  # not everywhere
    return len(may(0)) if may else os.cpu_count() or 1


def _send(to: IO[bytes] | None, what: Any) -> None:
    assert to is not None
    pickle.dump(what, to)
    to.flush()
