"""`evaluate` equals a literal loop walk on random layers, cores and mappings, to the word."""

import numpy as np
import pytest
from random_cases import differences, random_case, random_conventions

from costs.conventions import Conventions
from costs.evaluate import evaluate, evaluate_many

HALOS = ("exact", "whole")


def check_random_cases(seed, number):
    rng = np.random.default_rng(seed)
    for halo in HALOS:
        by_conventions = {}
        for _ in range(number // len(HALOS)):
            conventions = random_conventions(rng, halo)
            by_conventions.setdefault(conventions, []).append(random_case(rng))
        for conventions, cases in by_conventions.items():
            costs = evaluate_many(cases, conventions)
            for case, cost in zip(cases, costs, strict=True):
                assert not differences(case, conventions, cost), (case, conventions)


def test_500_random_cases_equal_the_loop_walk():
    check_random_cases(seed=1, number=500)


@pytest.mark.slow
def test_10000_random_cases_equal_the_loop_walk():
    check_random_cases(seed=2, number=10_000)


def test_evaluating_many_at_once_changes_no_bit():
    rng = np.random.default_rng(3)
    cases = [random_case(rng) for _ in range(60)]
    together = evaluate_many(cases)
    for case, cost in zip(cases, together, strict=True):
        assert evaluate(*case).to_dict() == cost.to_dict()


@pytest.mark.parametrize("halo", ["timeloop", "exact", "whole"])
def test_halos_order_the_input_words(halo):
    """No halo fetches more than whole tiles, or fewer than the exact difference."""
    rng = np.random.default_rng(4)
    cases = [random_case(rng) for _ in range(100)]
    costs = {h: evaluate_many(cases, Conventions(halo=h)) for h in ("exact", halo, "whole")}
    for low, middle, high in zip(*(costs[h] for h in ("exact", halo, "whole")), strict=True):
        for level, operands in middle.counts.items():
            for operand, words in operands.items():
                for direction, number in words.items():
                    assert low.counts[level][operand][direction] <= number
                    assert number <= high.counts[level][operand][direction]


def test_skipping_padding_never_adds_words():
    rng = np.random.default_rng(5)
    cases = [random_case(rng) for _ in range(100)]
    for halo in ("timeloop", "exact", "whole"):
        counted = evaluate_many(cases, Conventions(halo=halo))
        skipped = evaluate_many(cases, Conventions(halo=halo, padding="skipped"))
        for more, less in zip(counted, skipped, strict=True):
            for level, operands in less.counts.items():
                assert (
                    operands.get("I", {"read": 0})["read"]
                    <= (more.counts[level].get("I", {"read": 0})["read"])
                )
