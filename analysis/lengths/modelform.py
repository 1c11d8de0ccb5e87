"""The form of a stored length predictor: every field and its type, nothing unknown, nothing converted."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .features import CATEGORIES, NUMBERS
from .intervals import LEVELS
from .overlap import KEPT

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rows = list[list[Positive]]


class Form(BaseModel):
    """Nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Facts(Form):
    """What a predictor was trained on."""

    trace_id: str
    trace_name: str
    epoch: str | None  # ISO 8601; null where the trace's times are relative
    from_s: Finite  # first and last arrival of what was trained on
    to_s: Finite
    cut_s: Finite
    rows: int = Field(ge=0)
    kind: str
    seed: int
    note: str | None
    sketch: list[int] = Field(max_length=KEPT)  # overlap.sketch of these rows

    def told(self) -> dict[str, Any]:
        """As metrics.json has it."""
        return self.model_dump(exclude={"sketch"})


class PastForm(Form):
    """The requests that a predictor looks back on."""

    service: list[str | None]
    tenant: list[str | None]
    session: list[str | None]
    arrival_s: list[Finite]
    done_s: list[Finite]
    input_tokens: list[Finite | None]
    output_tokens: list[Finite]


class FeaturesForm(Form):
    """What trees look at."""

    levels: dict[Literal[CATEGORIES], list[str]]  # type: ignore[valid-type]
    numbers: list[Literal[tuple(NUMBERS)]]  # type: ignore[valid-type]
    history: PastForm


class TreesForm(Form):
    """Expected outputs by trees."""

    type: Literal["trees"]
    booster: dict[str, Any]
    services: list[str]
    scale: list[Positive]


class QuantileTreesForm(Form):
    """Quantiles by trees."""

    type: Literal["quantile-trees"]
    booster: dict[str, Any]


class BucketsForm(Form):
    """A classifier of buckets."""

    type: Literal["buckets"]
    booster: dict[str, Any]
    edges: list[Positive]
    means: list[Positive]
    ends: list[Positive] = Field(min_length=2, max_length=2)


class InputBinForm(Form):
    """Means and quantiles by input length."""

    type: Literal["input-bin"]
    services: list[str]
    mean: Rows
    quantile: list[Rows]


class MedianForm(Form):
    """Quantiles of all."""

    type: Literal["median"]
    quantile: list[Positive] = Field(min_length=len(LEVELS), max_length=len(LEVELS))


class ShiftForm(Form):
    """What calibration adds to quantiles."""

    services: list[str]
    factor: Rows


class RestForm(Form):
    """What is left of outputs that go on."""

    services: list[str]
    grid: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(min_length=1)
    tokens: list[Rows]


class FileForm(Form):
    """The file."""

    lmaas_model: Literal["output lengths"]
    schema_version: Literal["1.2"]
    lmaas_version: str
    xgboost_version: str
    levels: list[Finite]
    trained: Facts
    services: list[str]
    edges: list[Positive]
    longest: Positive | None
    features: FeaturesForm | None
    model: Annotated[TreesForm | BucketsForm | InputBinForm | MedianForm, Field(discriminator="type")] | None
    spread: Annotated[QuantileTreesForm | BucketsForm | InputBinForm | MedianForm, Field(discriminator="type")] | None
    shift: ShiftForm | None
    rest: RestForm | None
