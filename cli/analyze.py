"""`lmaas analyze`: a trace -> what its traffic looks like."""

from typing import Any

import typer

from .options import Format, Json, Map, Out, Since, TimeUnit, TracePath, Until, Where, Window, mapping
from .screen import Screen


def command(
    ctx: typer.Context,
    trace: TracePath = None,
    window: Window = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
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
    """
    from lmaas.analysis import analyze
    from lmaas.analysis.ingest import open_trace
    from lmaas.analysis.workspace import Workspace
    from lmaas.reports.write import recording, write_analysis

    screen: Screen = ctx.obj
    workspace = Workspace.open()
    opened = open_trace(trace, workspace, format=format, mapping=mapping(map), time_unit=time_unit, say=screen.say)
    asked: dict[str, Any] = {"window_s": window, "since": since, "until": until, "where": where}
    with recording(workspace, "analyze", opened.meta.name, screen.argv, asked, out) as recorded:
        written = write_analysis(analyze(opened, **asked), recorded)
    screen.present(written, "lmaas evaluate --policy preserve", as_json=as_json)
    return written.exit_code
