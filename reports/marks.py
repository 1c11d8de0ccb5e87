"""What a user puts on a report's head: who may read it, and by when it is to be decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from lmaas.analysis.errors import Exit, UserError

from .format import text
from .section import Report

LONGEST = 80  # signs of a label
DECIDE_BY = "Decide by"


@dataclass(frozen=True)
class Marks:
    """label: such as Internal; decide_by: a date, ISO 8601. None: not said."""

    label: str | None = None
    decide_by: str | None = None

    def check(self) -> None:
        """UserError (exit 2) for a label that no header holds, and for what is no date."""
        if self.label is not None and not 0 < len(self.label.strip()) <= LONGEST:
            raise UserError(f"--label has {len(self.label):,} signs; write 1 to {LONGEST}", Exit.USAGE)
        try:
            date.fromisoformat(self.decide_by or "2026-01-01")
        except ValueError:
            said = f"--decide-by '{text(self.decide_by or '')}' is no date; write it as 2026-12-18"
            raise UserError(said, Exit.USAGE) from None

    def on(self, report: Report, generated: str) -> Report:
        """The report with them, and with when it was made (UTC, ISO 8601)."""
        made = ("Generated", f"{generated[:10]} {generated[11:16]} UTC")
        decided = ((DECIDE_BY, self.decide_by),) if self.decide_by else ()
        return replace(report, facts=(*report.facts, made, *decided), label=self.label or "")

    def over(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """A stored report's document with them, in place of those it has."""
        facts = content["facts"] | ({DECIDE_BY: self.decide_by} if self.decide_by else {})
        return {**content, "facts": facts, "label": text(self.label or content.get("label", ""))}


NO_MARKS = Marks()
