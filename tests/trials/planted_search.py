"""A finished search on disk, with planted errors, for tests of what reads searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from tests.counted_spaces import FOUR_STAGES
from trials.engines.results import Failure, RetrainResult, TargetCost, TrialResult
from trials.runs.options import SearchOptions
from trials.runs.recommendation import Recommendation, Recommendations, SizeEffect
from trials.runs.recorded_search import RecordedSearch
from trials.runs.records import HEADER_KEYS, Records
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate

HOSTILE = "</script><script>alert(1)</script>"
"""What a file could smuggle into a page."""

NUM_TRIALS = 40


def planted(candidate: Candidate) -> float:
    """Returns an error that a second recursion in the first stage lowers by 5 points, with noise of up to one point."""
    noise = int(candidate.arch.arch_id, 16) % 1000 / 1e5
    return 0.4 - 0.05 * candidate.arch.stages[0].recursions + noise


def planted_by_depth(candidate: Candidate) -> list[float]:
    """Returns the planted error at the full depth, and 20 points more for each recursion less."""
    deepest = candidate.arch.max_recursions
    return [planted(candidate) + 0.2 * (deepest - depth) for depth in range(1, deepest + 1)]


def trial_result(candidate: Candidate) -> TrialResult:
    cost = cost_of(candidate.arch)
    target = TargetCost(flops=cost.flops, params=cost.params, image_size=64, classes=10)
    return TrialResult(
        error=planted(candidate), cross_entropy=1.0, error_by_depth=planted_by_depth(candidate), val_images=100,
        train_loss=None, train_steps=0, train_images=0, train_seconds=0.0, seconds=0.5, target=target, proxy=target,
        proxy_arch=candidate.arch, device="cpu", peak_memory_mb=1.0,
    )  # fmt: skip


def retrained(candidate: Candidate, test_error: float) -> RetrainResult:
    cost = cost_of(candidate.arch)
    return RetrainResult(
        arch=candidate.arch, flops=cost.flops, params=cost.params, inherited_error=0.3, inherited_cross_entropy=1.0,
        error=0.2, cross_entropy=1.0, test_error=test_error, test_cross_entropy=1.0, num_val_images=100,
        num_test_images=100, train_images=10, seconds=2.0,
    )  # fmt: skip


def write_search(run_dir: Path, seed: int = 0, *, num_failed: int = 5, **given: Any) -> RecordedSearch:
    """Writes the records of a finished search with options `given`, as a search does, and returns it."""
    domain, rng = SReTDomain(FOUR_STAGES, Budget(flops_max=900_000)), np.random.default_rng(seed)
    options = SearchOptions.parse({"trials": NUM_TRIALS, "flops_budget": 900_000, "seed": seed, **given}, "test")
    header: dict[str, Any] = {key: {} for key in HEADER_KEYS} | {"command": []}
    header |= {
        "command": ["cli.py", "search", f"--data={HOSTILE}"], "options": options.model_dump(mode="json"),
        "space": FOUR_STAGES.to_dict(), "device": "cpu", "versions": {"torch": "2"}, "space_digest": FOUR_STAGES.digest,
        "data": {"summary": f"pictures: 2 classes\n  classes {HOSTILE}", "digest": "", "classes": 2},
    }  # fmt: skip
    with Records(run_dir) as records:
        records.start(header)
        drawn = [domain.draw(rng) for _ in range(NUM_TRIALS)]
        for number, candidate in enumerate(drawn):
            cost = cost_of(candidate.arch)
            records.asked(number, candidate, cost.flops, cost.params)
            if number < NUM_TRIALS - num_failed:
                records.ended(number, trial_result(candidate), None, 0.5)
            else:
                records.ended(number, None, Failure(cause="diverged", message=HOSTILE), 0.25)
        networks = tuple(
            Recommendation(cost="flops", share=share, limit=int(share * 9e5), number=number, predicted_error=0.3,
                           deviation=0.01)
            for number, share in ((0, 1.0), (1, 0.5))
        )  # fmt: skip
        size = SizeEffect(difference=0.0, deviation=0.01)
        records.recommended(Recommendations(num_trials=NUM_TRIALS, networks=networks, size=size))
        for role, error in (("fine-tuned", 0.21), ("from scratch", 0.25), ("control", 0.29)):
            records.final(0, role, retrained(drawn[0], error))  # type: ignore[arg-type]
    return RecordedSearch.open(run_dir)
