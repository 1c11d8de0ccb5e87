"""Bars of long work: how much is done, for how long, how fast, and how long it will take at that."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from lmaas.analysis.progress import Share
from lmaas.reports.format import text

AFTER_S = 2.0  # what is done by then needs no bar


@contextmanager
def bars(what: str, screen: Console) -> Iterator[Callable[[str, float], None]]:
    """A callback (label, share done) that draws a bar a label after AFTER_S; nothing is left of them in the end."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        Pace(),
    )
    bar = Progress(*columns, console=screen, transient=True)
    tasks: dict[str, TaskID] = {}

    def step(label: str, done: float) -> None:
        if label not in tasks:
            tasks[label] = bar.add_task(text(f"{what} {label}"), total=1.0)
        bar.update(tasks[label], completed=float(done))
        if isinstance(done, Share):
            bar.update(tasks[label], of=done.of, unit=done.unit)

    # a step may last: the clock starts the bar, not the next step
    clock = Timer(AFTER_S, bar.start)
    clock.daemon = True
    clock.start()
    try:
        yield step
    finally:
        clock.cancel()
        clock.join()
        if bar.live.is_started:
            bar.stop()


class Pace(ProgressColumn):
    """What was done a second so far, and the time left if it goes on so."""

    def render(self, task: Task) -> Text:
        """Of a task whose fields may hold `of` and `unit` of a Share."""
        return Text(
            pace(task.completed, task.elapsed or 0.0, task.fields.get("of", 100.0), task.fields.get("unit", "%"))
        )


def pace(done: float, elapsed_s: float, of: float, unit: str) -> str:
    """'1,234 requests/s, 0:00:12 left'; empty while nothing is known."""
    if done <= 0 or elapsed_s <= 0:
        return ""
    rate = done * of / elapsed_s
    left_s = round(elapsed_s * (1 - done) / done)
    told = f"{rate:,.0f}" if rate >= 100 else f"{rate:.2g}"
    return f"{told} {unit}/s, {left_s // 3600}:{left_s // 60 % 60:02}:{left_s % 60:02} left"
