"""`lmaas analyze`: a trace -> what its traffic looks like."""

from functools import partial
from typing import Any

import typer

from .options import (
    By,
    Compare,
    Format,
    Json,
    Label,
    Map,
    Out,
    Since,
    TimeUnit,
    TracePath,
    Until,
    Where,
    Window,
)
from .reading import read_trace
from .screen import Screen


def command(
    ctx: typer.Context,
    trace: TracePath = None,
    window: Window = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    by: By = None,
    compare: Compare = None,
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
    label: Label = None,
    as_json: Json = False,
    out: Out = None,
) -> int:
    """Characterise a trace: load over time, lengths, who asks, latencies, prefix reuse, data quality.

    \b
      lmaas analyze trace.parquet
      lmaas analyze log.csv --time-unit s --map arrival_s=ts \\
                            --map input_tokens=in --map output_tokens=out
      lmaas analyze --since 2024-05-10 --until 2024-05-12 \\
                    --where "service = 'chat' and input_tokens > 1000"
      lmaas analyze --by service,tenant
      lmaas analyze --since -1d --compare 1d
    """
    from lmaas.analysis import analyze
    from lmaas.analysis.comparison.against import Against, compared
    from lmaas.analysis.trace import Trace
    from lmaas.analysis.workspace import Workspace
    from lmaas.reports.marks import Marks
    from lmaas.reports.write import recording, write_analysis

    screen: Screen = ctx.obj
    workspace = Workspace.open()

    def read(name: str | None) -> Trace:
        return read_trace(screen, name, workspace, format=format, map=map, time_unit=time_unit)

    opened = read(trace)
    part: dict[str, Any] = {"since": since, "until": until, "where": where}
    against = None if compare is None else Against.parse(compare, read)
    workspace.use(opened)  # stays the current one
    groupings = None if by is None else [name.strip() for name in by.split(",")]
    asked = part | {"window_s": window, "by": groupings, "compare": compare}
    with recording(workspace, "analyze", opened.meta.name, screen.argv, asked, out, Marks(label)) as recorded:
        with screen.progress("analyze") as progress:
            result = analyze(
                opened, window_s=window, by=groupings, **part, progress=partial(progress, opened.meta.name)
            )
            if against is not None:
                result = compared(result, opened, against, **part, progress=partial(progress, "comparison"))
        written = write_analysis(result, recorded)
    screen.present(written, "lmaas evaluate --policy preserve", as_json=as_json)
    return written.exit_code
