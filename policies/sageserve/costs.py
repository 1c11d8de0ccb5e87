"""What SageServe's ILP weighs, by service and GPU type: α of a replica and hour, σ of a start (arXiv 2502.14617)."""

from collections.abc import Sequence

import numpy as np

from lmaas.replay.profile import Profile

from .slots import Slot

LEAST_COST, MOST_COST = 1e-3, 1e6  # HiGHS' gap is 1e-6, and a cost of 1e20 is infinite to it


def parsed(name: str, cost: float | str) -> float | dict[str, float]:
    """A number, or one for each GPU type, of 'A100-SXM-80GB=10 H100-SXM-80GB=18'; ValueError for what is neither."""
    if isinstance(cost, str):
        pairs = [part.partition("=") for part in cost.split()]
        try:
            by_type = {gpu: _checked(name, float(number)) for gpu, _, number in pairs if gpu}
        except ValueError:
            by_type = {}
        if len(by_type) < max(len(pairs), 1):
            raise ValueError(f"{name} is {cost!r}; {_range()}, or one a GPU type, such as 'A100-SXM-80GB=10'")
        return by_type
    return _checked(name, cost)


def vm_costs(cost: float | str, slots: Sequence[Slot]) -> np.ndarray:
    """α, f8[slots], of a replica and hour.

    One number is that of the cheapest replica, the others' in proportion to their price an hour; where one has no price
    they cost alike. ValueError where types are named and one of the slots' is not.
    """
    prices = [_price(profile) for _, profile in slots]
    return _each("vm_cost", cost, slots, np.array(prices))


def start_costs(cost: float | str, slots: Sequence[Slot]) -> np.ndarray:
    """σ, f8[slots], of a start: as α, in proportion to what a replica costs while it starts (price, cold start)."""
    wasted = [_price(profile) * profile.startup_s.cold for _, profile in slots]
    return _each("start_cost", cost, slots, np.array(wasted))


def _price(profile: Profile) -> float:
    """Dollars an hour of a replica; NaN: not known."""
    usd = profile.usd_per_gpu_hour
    return np.nan if usd is None else usd * profile.gpus_per_replica


def _each(name: str, cost: float | str, slots: Sequence[Slot], weights: np.ndarray) -> np.ndarray:
    given = parsed(name, cost)
    if not isinstance(given, dict):
        known = bool(len(weights)) and bool((weights > 0).all())  # NaN is not
        return np.minimum(np.full(len(slots), given) * (weights / weights.min() if known else 1.0), MOST_COST)
    types = [profile.gpu or "GPU" for _, profile in slots]
    if lacking := sorted(set(types) - set(given)):
        raise ValueError(
            f"{name} names no cost of {', '.join(lacking)}; the pools may run on {', '.join(sorted(set(types)))}"
        )
    return np.array([given[gpu] for gpu in types])


def _checked(name: str, cost: float) -> float:
    if cost != 0 and not LEAST_COST <= cost <= MOST_COST:
        raise ValueError(f"{name} is {cost}; {_range()}")
    return cost


def _range() -> str:
    return f"0, or a number from {LEAST_COST:g} to {MOST_COST:,.0f}"
