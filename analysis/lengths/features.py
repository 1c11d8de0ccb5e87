"""What a router knows of a request at its arrival, as numbers for the length predictors."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ..windows import DAY_S
from .history import Past, events, remembered
from .prompts import GRAMS, PromptBits, telling

CATEGORIES = ("service", "tier", "region", "tenant")
MAX_LEVELS = 200  # of a category, the most frequent; the others share one level
NUMBERS = {  # name -> what it is; those that the training rows tell are made
    "input": "input tokens",
    "max_tokens": "the limit that the request asks for",
    "recent": "mean of the tenant's last 32 outputs done by then (of the service's, without tenants)",
    "turn": "requests of the session before it",
    "gap": "time since the session's last request",
    "previous_input": "input tokens of the session's last request",
    "previous_output": "the session's last output done by then",
    "session_recent": "mean of the session's last 32 outputs done by then",
    "hour_sin": "time of day",
    "hour_cos": "time of day",
    **dict.fromkeys(GRAMS, "whether words of the prompt set this bit"),
}
OF_SESSIONS = ("turn", "gap", "previous_input", "previous_output", "session_recent")
OF_DAYS = ("hour_sin", "hour_cos")


@dataclass(frozen=True, eq=False)
class Features:
    """The encoding learned on the training rows: category levels, which numbers there are, and what to look back on."""

    levels: dict[str, tuple[str, ...]]
    numbers: tuple[str, ...]  # of NUMBERS
    history: pl.DataFrame  # history.SCHEMA
    clock: bool = True  # whether times of day are those of the training

    @classmethod
    def learn(cls, training: pl.DataFrame) -> "Features":
        """From rows that are all done: CATEGORIES, arrival_s, done_s, input_tokens, and what else there is of them."""
        levels = {}
        for name in CATEGORIES:
            counts = training.select(pl.col(name).cast(pl.String)).drop_nulls().to_series().value_counts()
            frequent = counts.sort(["count", name], descending=[True, False]).head(MAX_LEVELS)
            if frequent.height > 1 or 0 < frequent["count"].sum() < training.height:
                levels[name] = tuple(frequent[name].to_list())
        memory = remembered(training)
        known = {"max_tokens": "max_tokens" in training.columns and training["max_tokens"].count() > 0}
        known |= dict.fromkeys(OF_SESSIONS, events(training)["session"].count() > 0)
        # before every hour was seen twice it only says how late it is, and trees extend that into the future:
        # with it, outputs on one hour of Azure conversations came out a fifth too short, without it 2 % too long
        known |= dict.fromkeys(OF_DAYS, _span_s(training) >= 2 * DAY_S * 0.99)
        telling_grams = telling(training)
        known |= {gram: gram in telling_grams for gram in GRAMS}
        return cls(levels, tuple(name for name in NUMBERS if known.get(name, True)), memory)

    @property
    def names(self) -> tuple[str, ...]:
        """One per column of `matrix`."""
        return (*self.levels, *self.numbers)

    @property
    def types(self) -> list[str]:
        """xgboost feature types: q number, c category; one per column of `matrix`."""
        return ["c"] * len(self.levels) + ["q"] * len(self.numbers)

    def elsewhere(self) -> "Features":
        """For a trace whose times are not the training's: nothing to look back on, and no time of day."""
        return replace(self, history=self.history.clear(), clock=False)

    def matrix(self, requests: pl.DataFrame) -> np.ndarray:
        """f4[rows, features], NaN where nothing is known; rows as in `requests`, of which what is absent is unknown.

        Outcomes count only where done_s < this arrival_s: those of `requests`, where it has output_tokens and done_s,
        and remembered ones that arrived before its first row.
        """
        # xgboost reads row by row: copying into its order here costs less than striding there
        matrix = np.empty((requests.height, len(self.names)), dtype=np.float32)
        for i, (name, levels) in enumerate(self.levels.items()):
            matrix[:, i] = level_codes(requests[name], levels) if name in requests.columns else len(levels)
        past = Past.of(requests, self.history)
        prompts = PromptBits(requests)
        for i, name in enumerate(self.numbers, len(self.levels)):
            matrix[:, i] = prompts.of(name) if name in GRAMS else self._number(name, requests, past)
        return matrix

    def _number(self, name: str, requests: pl.DataFrame, past: Past) -> np.ndarray:
        """One of NUMBERS but of GRAMS; of counts, tokens and times ln(1 + x)."""
        match name:
            case "hour_sin" | "hour_cos":
                angle = past.arrival_s % DAY_S * (2 * np.pi / DAY_S) if self.clock else past.arrival_s * np.nan
                return np.asarray(np.sin(angle) if name == "hour_sin" else np.cos(angle))
            case "input":
                counted = _given(requests, "input_tokens")
            case "max_tokens":
                counted = _given(requests, "max_tokens")
            case "recent":
                counted = past.outputs("service", "tenant")[0]
            case "session_recent" | "previous_output":
                counted = past.session_outputs[name == "previous_output"]
            case _:
                counted = past.turns[("turn", "gap", "previous_input").index(name)]
        return np.asarray(np.log1p(counted))


def level_codes(column: pl.Series, levels: tuple[str, ...]) -> np.ndarray:
    """The place of each value in `levels`; their number where it is none of them, or null."""
    coded = column.cast(pl.String).cast(pl.Enum(levels), strict=False).to_physical()
    return np.asarray(coded.cast(pl.Float32).fill_null(float(len(levels))).to_numpy())


def _given(requests: pl.DataFrame, name: str) -> np.ndarray:
    if name not in requests.columns:
        return np.full(requests.height, np.nan, np.float32)
    return np.asarray(requests[name].cast(pl.Float32).fill_null(float("nan")).to_numpy())


def _span_s(training: pl.DataFrame) -> float:
    first, last = training["arrival_s"].min(), training["arrival_s"].max()
    return float(last) - float(first) if training.height else 0.0  # type: ignore[arg-type]
