"""The resolved configuration: every setting of the evaluation, with what was not asked for filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from lmaas.analysis.rundir import plain

from ..section import Section

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation


def section(result: Evaluation) -> Section:
    """The settings as YAML; signs that could steer a terminal are escaped by it."""
    written = yaml.safe_dump(plain(result.settings), sort_keys=False, allow_unicode=False, width=100)
    count = len(result.settings)
    return Section(
        "configuration",
        "Resolved configuration",
        f"All {count} settings in effect, whether asked for or by default, are listed here; times are in seconds.",
        code=written.rstrip(),
    )
