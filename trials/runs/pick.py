"""Picks the best structure inside a budget from a recorded search, by the model of its trials."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.errors import UserError

from ..strategies.strategy import Candidate
from ..strategies.structure import MIN_RESULTS, StructureModel
from .objectives import error_of
from .recorded_search import RecordedSearch, domain_of, recorded_profile
from .trial import Trial


@dataclass(frozen=True)
class Picked:
    """A network, and what is known of it."""

    candidate: Candidate
    predicted_error: float
    """Posterior mean of the proxy's validation error, 0 to 1."""
    deviation: float
    """Posterior standard deviation of it."""
    trial: Trial | None
    """The trial that tried it; None if none did."""
    num_trials: int
    """Finished trials that the model was fitted to."""


def pick_network(search: RecordedSearch, budget: Budget) -> Picked:
    """Returns the network whose structure is the best inside a budget, which may be wider than the search's.

    Args:
        search: The search; at least `MIN_RESULTS` of its trials must have finished.
        budget: Bounds FLOPs, parameters or both from above. The structure is the best at the first of these bounds.
            The search's bounds on latency and on the shallowest depth stay.

    Raises `UserError` if no network meets the budget, or too few trials have finished.
    """
    finished = [trial for trial in search.history.in_order if trial.result is not None]
    if len(finished) < MIN_RESULTS:
        raise UserError(
            f"{search.run_dir}: structure is judged from {MIN_RESULTS} finished trials on, got {len(finished)}"
        )
    no_bounds = dict.fromkeys(("flops_budget", "params_budget", "flops_min", "params_min"))
    profile = recorded_profile(search.history.header, search.run_dir)
    whole = domain_of(search.domain.space, search.options.model_copy(update=no_bounds), profile)
    cost, limit = ("flops", budget.flops_max) if budget.flops_max is not None else ("params", budget.params_max)
    if limit is None:
        raise UserError("a pick needs the most that the network may cost: FLOPs, parameters or both")
    objectives = search.options.objectives
    budget = replace(budget, shallowest_flops_max=search.options.shallowest_flops_budget)
    errors = [error_of(trial.result, objectives) for trial in finished if trial.result is not None]
    axis = whole.chain.cost_names.index(cost)
    model = StructureModel(whole, [trial.candidate for trial in finished], errors, axis).within(whole.within(budget))
    candidate = model.best_within(limit, excluded=search.history.failed_keys)
    if candidate is None:
        raise UserError(f"{search.domain.space.name}: no network was found that has {budget.describe()}")
    belief = model.belief([candidate])
    trial = next((trial for trial in finished if trial.key == candidate.key), None)
    return Picked(candidate, float(np.clip(belief.mean[0], 0.0, 1.0)), float(belief.deviation[0]), trial, len(finished))
