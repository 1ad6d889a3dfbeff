"""What a search recommends, as the tool does (`trials.search.recommend`): for every budget the best structure."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.end_to_end.setting import BUDGETS
from sret_nas.arch.cost import cost_of
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate
from trials.strategies.structure import MIN_RESULTS, WINDOWS, StructureModel


def model_of(domain: SReTDomain, candidates: Sequence[Candidate], errors: Sequence[float]) -> StructureModel | None:
    """Returns the model of structure, fitted to all results; None if they are too few for it."""
    if len(candidates) < MIN_RESULTS:
        return None
    return StructureModel(domain, candidates, errors, domain.chain.cost_names.index("flops"))


def best_structures(model: StructureModel) -> list[Candidate | None]:
    """Returns the network of the best structure at each of `BUDGETS`; None where none fits."""
    return [model.best_within(budget) for budget in BUDGETS]


def recommended_numbers(
    domain: SReTDomain, candidates: Sequence[Candidate], errors: Sequence[float]
) -> list[int | None]:  # fmt: skip
    """Returns, for each of `BUDGETS`, the number of the trial that is recommended; None if no trial is within it.

    That is the one of the least posterior mean among those of nearly that cost; without a model, or if none costs
    nearly as much, the one of the least error within the budget.
    """
    model = model_of(domain, candidates, errors)
    costs = [cost_of(candidate.arch).flops for candidate in candidates]
    numbers: list[int | None] = []
    for budget in BUDGETS:
        inside = [number for number, cost in enumerate(costs) if WINDOWS[0] * budget <= cost <= budget]
        if model is not None and inside:
            means = model.belief([candidates[number] for number in inside]).mean
            numbers.append(inside[int(means.argmin())])
        else:
            within = [number for number, cost in enumerate(costs) if cost <= budget]
            numbers.append(min(within, key=lambda number: (errors[number], costs[number]), default=None))
    return numbers
