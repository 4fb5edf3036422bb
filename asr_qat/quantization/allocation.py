"""Which layer gets which precision: the least cost for a budget of bytes.

Costs of layers are taken to add up, so this is the multiple-choice knapsack: one option of each
layer, sums of bytes and of costs. Dynamic programming over the bytes solves it for every budget at
once.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Table columns. Where the bytes of all layers have a common divisor that leaves fewer columns, as
# in any model of ours up to some hundred million weights, the result is exact.
COLUMNS = 1 << 16


class BudgetError(ValueError):
    """A budget that no choice of options keeps to."""


class Plan(NamedTuple):
    """One option for each layer."""

    bytes: int
    cost: float
    options: tuple[int, ...]  # by layer


class Front:
    """The plans that no other plan beats in bytes without being beaten in cost.

    Args:
        sizes: bytes of each option of each layer.
        costs: what each option of each layer costs, shaped as ``sizes``; may be negative.
        columns: of the table, at least 1. Bytes are rounded up to as many steps between the
            smallest and the largest plan, so a plan never exceeds its budget.

    Attributes:
        plans: from the fewest bytes to the least cost: bytes rise, costs fall.

    Raises:
        ValueError: if there is no layer, or the two do not fit together.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[int]],
        costs: Sequence[Sequence[float]],
        columns: int = COLUMNS,
    ):
        if not sizes or [len(row) for row in sizes] != [len(row) for row in costs]:
            raise ValueError("expected a size and a cost for each option of at least one layer")
        if not all(map(len, sizes)):
            raise ValueError("expected at least one option for each layer, received none")
        extra = [[size - min(row) for size in row] for row in sizes]
        unit = math.gcd(*(each for row in extra for each in row)) or 1
        unit *= -(-sum(map(max, extra)) // unit // columns) or 1
        steps = [[-(-each // unit) for each in row] for row in extra]
        table, chosen = _fill(steps, costs)
        found = []
        for column in np.flatnonzero(table < np.minimum.accumulate(np.r_[np.inf, table[:-1]])):
            options = _trace(int(column), steps, chosen)
            size = sum(row[k] for row, k in zip(sizes, options, strict=True))
            cost = sum(row[k] for row, k in zip(costs, options, strict=True))
            found.append(Plan(size, cost, options))
        self.plans: list[Plan] = []
        for plan in sorted(found):  # rounding may have changed the order
            if not self.plans or plan.cost < self.plans[-1].cost:
                self.plans.append(plan)

    def within(self, budget: int) -> Plan:
        """The plan of the least cost with at most so many bytes.

        Raises:
            BudgetError: if there is none.
        """
        fitting = [plan for plan in self.plans if plan.bytes <= budget]
        if not fitting:
            raise BudgetError(
                f"a budget of {budget:,} bytes: the least that these recipes come to is "
                f"{self.plans[0].bytes:,}"
            )
        return min(fitting, key=lambda plan: plan.cost)

    def near(self, budget: int, count: int, share: float = 0.1) -> list[Plan]:
        """At most ``count`` plans up to the budget, evenly over its last part; the last the best.

        Args:
            budget: bytes.
            count: at least 1.
            share: of the budget, that the plans' bytes lie in.

        Raises:
            BudgetError: if no plan fits.
        """
        best = self.within(budget)
        fitting = [p for p in self.plans if budget * (1 - share) <= p.bytes <= budget]
        positions = np.linspace(len(fitting) - 1, 0, max(count, 1)).astype(int)
        nearby = [fitting[i] for i in sorted(set(positions.tolist()))] if fitting else []
        return [*(plan for plan in nearby if plan is not best), best][-count:]


def _fill(steps, costs):
    """Least cost of exactly so many steps, ``[columns]``, and each layer's option on the way."""
    width = sum(map(max, steps)) + 1
    table = np.full(width, np.inf)
    table[0] = 0.0
    chosen = np.zeros((len(steps), width), np.int8)
    for layer, (row, prices) in enumerate(zip(steps, costs, strict=True)):
        best = np.full(width, np.inf)
        for option, (step, price) in enumerate(zip(row, prices, strict=True)):
            reached = np.full(width, np.inf)
            reached[step:] = table[: width - step] + price
            better = reached < best
            best[better] = reached[better]
            chosen[layer, better] = option
        table = best
    return table, chosen


def _trace(column, steps, chosen):
    """The options that led to a column."""
    options = []
    for row, by_column in zip(reversed(steps), reversed(chosen), strict=True):
        options.append(int(by_column[column]))
        column -= row[options[-1]]
    return tuple(reversed(options))
