import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_qat.quantization.allocation import BudgetError, Front, Plan


@st.composite
def layers(draw):
    options = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    sizes = [draw(st.lists(st.integers(1, 40), min_size=n, max_size=n)) for n in options]
    # Sixteenths add up exactly, so that equal sums are equal.
    costs = [draw(st.lists(st.integers(-20, 200), min_size=n, max_size=n)) for n in options]
    return sizes, [[cost / 16 for cost in row] for row in costs]


def every_plan(sizes, costs):
    for options in itertools.product(*(range(len(row)) for row in sizes)):
        rows = list(zip(sizes, costs, options, strict=True))
        yield Plan(sum(s[k] for s, _, k in rows), sum(c[k] for _, c, k in rows), options)


@given(layers())
def test_the_front_is_that_of_all_plans(found):
    plans = sorted(every_plan(*found), key=lambda plan: (plan.bytes, plan.cost))
    front, best = [], np.inf
    for plan in plans:
        if plan.cost < best:
            front.append((plan.bytes, plan.cost))
            best = plan.cost
    result = Front(*found).plans
    assert [(plan.bytes, plan.cost) for plan in result] == front
    everything = set(plans)
    assert all(plan in everything for plan in result)


@given(layers(), st.integers(1, 220))
def test_no_plan_within_the_budget_costs_less(found, budget):
    fitting = [plan.cost for plan in every_plan(*found) if plan.bytes <= budget]
    front = Front(*found)
    if not fitting:
        with pytest.raises(BudgetError, match=f"the least .* is {front.plans[0].bytes}"):
            front.within(budget)
        return
    plan = front.within(budget)
    assert plan.bytes <= budget and plan.cost == min(fitting)


@given(layers(), st.integers(1, 30), st.integers(1, 220))
def test_few_columns_keep_to_the_budget_and_lose_little(found, columns, budget):
    sizes, costs = found
    span = sum(max(row) - min(row) for row in sizes)
    smaller = budget - len(sizes) * -(-span // columns)  # each layer is rounded up once
    fitting = [plan.cost for plan in every_plan(*found) if plan.bytes <= smaller]
    if fitting:
        plan = Front(sizes, costs, columns).within(budget)
        assert plan.bytes <= budget and plan.cost <= min(fitting)


def test_plans_near_the_budget():
    sizes, costs = [[1, 2, 4]] * 30, [[3.0, 1.0, 0.0]] * 30
    front = Front(sizes, costs)
    near = front.near(80, 4)
    assert near[-1] == front.within(80) and len(near) == 4
    assert all(72 <= plan.bytes <= 80 for plan in near) and len(set(near)) == 4
    assert front.near(80, 1) == [front.within(80)]
    assert front.near(1000, 3) == [front.within(1000)]  # none is that large
    with pytest.raises(BudgetError, match="a budget of 29 bytes: the least .* come to is 30"):
        front.near(29, 3)


def test_a_conformer_of_a_hundred_layers_is_solved_exactly():
    rng = np.random.default_rng(0)
    weights = [256 * 1024, 1024 * 256, 256 * 768, 256 * 256, 256 * 512] * 24
    sizes = [[w * b // 8 + 1024 for b in (2, 4, 8)] for w in weights]
    costs = [sorted(rng.exponential(size=3), reverse=True) for _ in weights]
    plans = Front(sizes, costs).plans
    budgets = [plan.bytes for plan in plans]
    assert budgets[0] == sum(min(row) for row in sizes) and budgets == sorted(set(budgets))
    assert plans[-1].cost == pytest.approx(sum(row[-1] for row in costs))


@pytest.mark.parametrize(
    ("sizes", "costs", "message"),
    [
        ([], [], "at least one layer"),
        ([[1, 2]], [[1.0]], "a size and a cost for each option"),
        ([[1], []], [[1.0], []], "at least one option for each layer"),
    ],
)
def test_what_is_refused(sizes, costs, message):
    with pytest.raises(ValueError, match=message):
        Front(sizes, costs)
