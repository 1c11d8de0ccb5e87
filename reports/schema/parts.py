"""What the published forms share: their version, and what became of a trace's rows."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Version = Literal["1.0"]
Share = float | None  # 0 to 1; null where nothing was counted
Seconds = float | None


class Open(BaseModel):
    """A reader of 1.0 must accept what 1.1 adds."""

    model_config = ConfigDict(extra="allow")


class Selection(Open):
    """Which of a trace's rows were looked at: rows = rows_kept + outside + unmet."""

    since_s: Seconds = Field(None, description="arrival_s from here on")
    until_s: Seconds = Field(None, description="arrival_s before this")
    where: str | None = Field(None, description="a DuckDB expression, true of the rows")
    rows: int
    outside: int = Field(description="not in the period")
    unmet: int = Field(description="in the period, and the expression is not true")
    said: str
    period: str


class Rows(Open):
    """The trace and what became of its rows: read = kept + set aside + what `selection` leaves out."""

    trace_id: str
    rows_read: int
    rows_kept: int
    rows_set_aside: dict[str, int]
    selection: Selection | None = None
