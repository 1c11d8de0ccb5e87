"""How much of long work is done: a share of its time, told while it goes on."""

from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import TypeVar

Tell = Callable[[float], None]  # share done, 0 to 1
T = TypeVar("T")


class Share(float):
    """Of all of some work; `of` of its `unit` is all of it, so that who shows the share can say a rate."""

    of: float
    unit: str

    def __new__(cls, done: float, of: float, unit: str) -> "Share":
        """`done` of `of` units."""
        share = super().__new__(cls, done)
        share.of, share.unit = of, unit
        return share


def silent(done: float) -> None:
    """Nobody listens."""


def rising(tell: Tell, of: float, unit: str) -> Tell:
    """`tell`, told Shares that never fall and end at 1, whatever steps and threads say."""
    most, lock = 0.0, Lock()

    def told(done: float) -> None:
        nonlocal most
        with lock:
            most = max(most, min(done, 1.0))
            tell(Share(most, of, unit))

    return told


def part(tell: Tell, begins: float, ends: float) -> Tell:
    """For one step: its own 0 to 1 are told as `begins` to `ends`."""

    def told(done: float) -> None:
        share = begins + (ends - begins) * done if done < 1 else ends  # without a rounding error at the end
        tell(Share(share, done.of, done.unit) if isinstance(done, Share) else share)

    return told


def each(tell: Tell, work: Sequence[tuple[float, Callable[[], T]]]) -> Iterator[T]:
    """What each piece of work (its share of the time, in any unit; what to do) gives, one after another."""
    for _, (_, do) in zip(steps(tell, [weight for weight, _ in work]), work, strict=True):
        yield do()


def steps(tell: Tell, weights: Sequence[float]) -> Iterator[Tell]:
    """A `part` for each step in turn, as long as its weight; that it has ended is told as the next is asked for."""
    total, before = sum(weights) or 1.0, 0.0
    for weight in weights:
        ends = min((before + weight) / total, 1.0)
        yield part(tell, before / total, ends)
        tell(ends)
        before += weight
