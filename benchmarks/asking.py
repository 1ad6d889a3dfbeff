"""How long strategies take to propose: seconds per ask on sret_tiny at 1 GFLOPs, by the labels they have been told.

    python -m benchmarks.asking

Labels are a planted function of cost and MLP ratio, told to a fresh strategy; nothing is trained. Every figure is
over 24 asks, or two rounds of the additive strategy's if those are more (it proposes four at a time, and more the
more it knows), each told at once; `mean` is what a search pays per trial, `longest` what one ask can take. Of its
labels, all but the last eight are of a design, which here may be longer than in a search: 2,000 are there in a
minute, and what a model costs depends on their number. Seconds are the processor's, on one thread, so that what else
runs on the machine counts little. Writes results/asking.json.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from benchmarks.machine import describe_machine
from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.space.search_space import SearchSpace
from trials.strategies.additive import AdditiveStrategy
from trials.strategies.additive_settings import AdditiveSettings
from trials.strategies.candidates import CandidatePool
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate, Strategy

RESULT = Path(__file__).parent / "results" / "asking.json"
DOMAIN = SReTDomain(SearchSpace.load("sret_tiny"), Budget(flops_max=10**9))
LABELS = {
    "random": (20, 200),
    "nsga2": (20, 200),
    "tpe": (20, 200),
    "evolution": (20, 200),
    "additive": (20, 200, 2000),
}
MIN_ASKS = 24
LAST = 8
"""Labels that the additive strategy asked for by its model, before anything is timed."""

SETTINGS = AdditiveSettings()


def planted(candidate: Candidate) -> tuple[float, float]:
    flops = cost_of(candidate.arch).flops
    ratios = sum(stage.mlp_ratio for stage in candidate.arch.stages)
    return 0.5 - 0.05 * float(np.log(flops / 1e9)) + 0.01 * ratios, float(flops)


def create(name: Any, num_labels: int) -> Strategy[Candidate]:
    """Returns the additive strategy with a design of all but the last labels, so that few rounds are planned before the
    clock runs."""
    if name != "additive":
        return create_strategy(name, DOMAIN, ("error", "flops"), seed=0, population=20)
    start = num_labels - LAST
    settings = replace(SETTINGS, max_start=start)
    return AdditiveStrategy(CandidatePool(DOMAIN, seed=0), ("error", "flops"), seed=0, start=start, settings=settings)


def seconds_per_ask(name: Any, num_labels: int) -> dict[str, float]:
    strategy = create(name, num_labels)
    taken: list[float] = []
    for number in range(num_labels + max(MIN_ASKS, 2 * SETTINGS.batch_of(num_labels, is_listed=False))):
        started = time.process_time()
        candidate = strategy.ask()
        if number >= num_labels:
            taken.append(time.process_time() - started)
        assert candidate is not None
        strategy.tell(candidate, planted(candidate))
    return {"mean": round(fmean(taken), 5), "median": round(median(taken), 5), "longest": round(max(taken), 5)}


def main() -> None:
    DOMAIN.draw_stratified(np.random.default_rng(0), 1, "flops")  # counts the strata, once for all
    result = {
        **describe_machine("numpy", "optuna", "scipy"),
        "seed": 0,
        "space": "sret_tiny, at most 1 GFLOPs",
        "processor_seconds_per_ask": {
            name: {str(number): seconds_per_ask(name, number) for number in labels} for name, labels in LABELS.items()
        },
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["processor_seconds_per_ask"], indent=1))


if __name__ == "__main__":
    main()
