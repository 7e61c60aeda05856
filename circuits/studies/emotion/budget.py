"""How many components each sublayer may contribute: whole numbers that add up to a budget."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from tasks.errors import MethodError

LARGEST_SHARE = 0.4


def share_out(
    influence: Sequence[float],
    total: int,
    *,
    floor: int = 0,
    most: int | None = None,
    largest_share: float = LARGEST_SHARE,
) -> tuple[int, ...]:
    """``total`` components shared out to layers by their influence (arXiv 2510.11328).

    Every layer gets ``floor``. The rest is shared in proportion to ``max(influence, 0)`` (evenly
    if no layer has any), rounded down; what rounding leaves goes one by one to the largest
    remainders. No layer gets more than ``most`` components, nor more than ``largest_share`` of the
    total beyond its floor; what these caps cut off goes to the layers with the largest quota that
    still have room. If all layers stand at ``largest_share``, only ``most`` counts for what is
    left. Ties go to the earlier layer. The result always sums to ``total``.

    Raises:
        MethodError: the floors need more than ``total``, the layers cannot hold it, or an
            influence is not a finite number; every fault at once.
    """
    most = total if most is None else most
    _check(influence, total, floor, most, largest_share)
    rest = total - floor * len(influence)
    quotas = _quotas(influence, rest)
    room = [most - floor] * len(influence)
    limits = [min(room[0], int(largest_share * total))] * len(influence)
    extra = [min(int(quota), limit) for quota, limit in zip(quotas, limits, strict=True)]
    remainders = [quota - int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda layer: -remainders[layer])
    for layer in by_remainder[: rest - sum(map(int, quotas))]:
        extra[layer] += extra[layer] < limits[layer]
    by_quota = sorted(range(len(quotas)), key=lambda layer: -quotas[layer])
    for ceilings in (limits, room):
        for layer in by_quota:
            extra[layer] += min(rest - sum(extra), max(ceilings[layer] - extra[layer], 0))
    return tuple(floor + more for more in extra)


def _quotas(influence: Sequence[float], rest: int) -> list[float]:
    weights = [max(float(value), 0.0) for value in influence]
    # Dividing by the largest first keeps sums of tiny or huge influences exact enough to divide.
    largest = max(weights)
    weights = [value / largest for value in weights] if largest else [1.0] * len(weights)
    whole = sum(weights)
    return [rest * (value / whole) for value in weights]


def _check(
    influence: Sequence[float], total: int, floor: int, most: int, largest_share: float
) -> None:
    layers, faults = len(influence), []
    if not layers:
        faults.append("there is no layer to share out to")
    bad = [layer for layer, value in enumerate(influence) if not isfinite(value)]
    if bad:
        faults.append(f"the influence of layer {bad[0]} is {influence[bad[0]]}")
    if min(total, floor, most) < 0:
        faults.append(f"total {total}, floor {floor} and most {most} must not be negative")
    if not 0 < largest_share <= 1:
        faults.append(f"the largest share is {largest_share}; give more than 0 and at most 1")
    if layers and total < floor * layers:
        faults.append(
            f"{layers} layers with a floor of {floor} need at least {floor * layers}; "
            f"raise the budget or lower the floor"
        )
    if layers and total > most * layers:
        faults.append(f"{layers} layers of at most {most} hold no more than {most * layers}")
    if layers and floor > most:
        faults.append(f"the floor {floor} is above the {most} that a layer may have")
    if faults:
        raise MethodError(f"a budget of {total} cannot be shared out: " + "; ".join(faults))
