"""A run directory of few trials, one of which was tested, one failed and one never ended."""

from __future__ import annotations

from pathlib import Path

from sret_nas import PRESETS, cost_of
from trials.engines.results import Failure, FrontTestResult, TargetCost, TrialResult
from trials.runs.records import HEADER_KEYS, Records
from trials.strategies.strategy import Candidate

CANDIDATES = [
    Candidate(PRESETS["sret_t"], "full"),
    Candidate(PRESETS["sret_lt"], "joint"),
    Candidate(PRESETS["sret_s"], "full"),
]
HEADER = {key: {"of": key} for key in HEADER_KEYS} | {"command": ["search"]}
FAILURE = Failure(cause="diverged", message="the loss became nan", traceback="...")
DEATH = Failure(cause="worker died", message="SIGKILL")
TEST_RESULT = FrontTestResult(error=0.25, cross_entropy=1.5, num_images=100)


def result_of(candidate: Candidate) -> TrialResult:
    cost = cost_of(candidate.arch)
    target = TargetCost(flops=cost.flops, params=cost.params, image_size=224, classes=1000)
    return TrialResult(
        error=0.125,
        cross_entropy=0.1 + 0.2,
        error_by_depth=[0.5, 0.125],
        train_loss=1.0,
        train_steps=10,
        train_images=640,
        train_seconds=1.5,
        seconds=2.0,
        target=target,
        proxy=target,
        proxy_arch=candidate.arch,
        device="cpu",
        peak_memory_mb=700.0,
    )


ORIGINS = ("design", "additive", "")


def write_run(run_dir: Path) -> None:
    """Writes a finished trial that was tested, one that failed twice, and one that never ended."""
    with Records(run_dir) as records:
        records.start(HEADER)
        for number, candidate in enumerate(CANDIDATES):
            cost = cost_of(candidate.arch)
            records.asked(number, candidate, cost.flops, cost.params, origin=ORIGINS[number])
        records.ended(0, result_of(CANDIDATES[0]), None, 2.5)
        records.retried(1, 1, DEATH, 4.0)
        records.ended(1, None, FAILURE, 1.5)
        records.tested(0, TEST_RESULT)
