from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from sret_nas.budget import Budget
from sret_nas.cost import cost_of
from sret_nas.errors import BudgetError
from sret_nas.feasible import FeasibleSet
from sret_nas.space import SearchSpace, shipped_spaces
from trials.report.space import show_space


def shown(space: SearchSpace, budget: Budget, width: int = 80, samples: int = 2, seed: int = 0) -> str:
    file = StringIO()
    show_space(space, budget, Console(file=file, width=width), samples=samples, seed=seed)
    return file.getvalue()


def row_of(text: str, word: str) -> list[str]:
    """The cells of the first table row that holds a word."""
    line = next(line for line in text.splitlines() if f" {word} " in line and "│" in line)
    return [cell.strip() for cell in line.strip("│ ").split("│")]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_every_line_fits_and_nothing_is_cut(name: str, width: int) -> None:
    text = shown(SearchSpace.load(name), Budget(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_smoke_in_full() -> None:
    space = SearchSpace.load("smoke")
    text = shown(space, Budget(flops_max=10**8))
    assert row_of(text, "recursions") == ["recursions", "1 2", "2", "1"]
    assert row_of(text, "groups") == ["groups", "4,1", "2,1", "1"]
    assert row_of(text, "distinct") == ["distinct", "3", "2", "2"]
    assert "stem width: half the width of stage 1; stem strides: 2 2 2; drop path: 0\n" in text
    assert "depth schedules (recipe, not architecture): full joint\n" in text
    assert "FLOPs: multiply-adds of one image of 224 px, 3 channels, 1000 classes\n" in text
    assert "\n12 distinct networks\n" in text
    below = sum(cost_of(arch).flops <= 10**8 for arch in FeasibleSet(space, Budget()))
    assert f"\n{below} of them ({100 * below / 12:.3g} %) have FLOPs at most 100M\n" in text
    cheapest = FeasibleSet(space, Budget()).cheapest()
    assert row_of(text, cheapest.arch.arch_id)[:4] == ["least", cheapest.arch.arch_id, "56.22M", "159.2K"]
    dearest = FeasibleSet(space, Budget()).dearest()
    assert row_of(text, dearest.arch.arch_id)[:4] == ["most", dearest.arch.arch_id, "128.9M", "243.8K"]


def test_samples_are_inside_the_budget_and_the_seed_decides() -> None:
    space, budget = SearchSpace.load("smoke"), Budget(flops_max=10**8)
    inside = {arch.arch_id for arch in FeasibleSet(space, budget)}
    text = shown(space, budget, samples=6)
    _, title, table = text.partition("Drawn uniformly, seed 0: FLOPs at most 100M")
    assert title
    assert {row_of(table, str(number))[1] for number in range(1, 7)} <= inside
    assert text == shown(space, budget, samples=6)
    assert text != shown(space, budget, samples=6, seed=1)
    assert "Drawn" not in shown(space, budget, samples=0)


def test_without_a_budget_no_share_is_shown() -> None:
    assert "of them" not in shown(SearchSpace.load("smoke"), Budget())


def test_a_small_share_is_not_rounded_to_nothing() -> None:
    space = SearchSpace.load("sret_tiny")
    cheapest = FeasibleSet(space, Budget()).cheapest().flops
    budget = Budget(flops_max=cheapest)
    count = FeasibleSet(space, budget).count
    text = " ".join(shown(space, budget, samples=0).split())
    assert f"{count} of them (a share of {count / space.num_networks:.6g}) have {budget.describe()}" in text


def test_markup_in_a_description_is_only_text() -> None:
    data = SearchSpace.load("smoke").to_dict() | {"name": "mine", "description": "with [bold] and [/] and [red]"}
    assert "mine  with [bold] and [/] and [red]" in shown(SearchSpace.from_dict(data), Budget())


def test_an_impossible_budget_is_refused() -> None:
    with pytest.raises(BudgetError, match="no network of smoke"):
        shown(SearchSpace.load("smoke"), Budget(flops_max=10))
