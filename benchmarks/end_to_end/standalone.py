"""What a search recommends, trained from scratch by itself and tested on the test part, which no search saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.end_to_end.setting import PROXY, STANDALONE
from sret_nas.arch.config import ArchConfig
from trials.data import PreparedData
from trials.engines.jobs import RetrainJob

Line = dict[str, Any]


def recommended(search: Line) -> list[Line | None]:
    """Returns, for each of the budgets, the trial that a search recommends; None if it has none within."""
    return [None if number is None else search["trials"][number] for number in search["recommended"]]


def arch_of(trial: Line) -> ArchConfig:
    return ArchConfig.from_dict(trial["architecture"], "trial")


def trainings(searches: list[Line]) -> dict[tuple[str, int], ArchConfig]:
    """Returns every training that is needed, by network and seed, which is the search's: each once, whoever recommends
    it."""
    needed = {}
    for search in searches:
        for trial in recommended(search):
            if trial is not None:
                arch = arch_of(trial)
                needed[arch.arch_id, search["seed"]] = arch
    return needed


def train_and_test(arch: ArchConfig, seed: int, data_dir: Path) -> Line:
    """Runs one training, in this process, on one thread."""
    from trials.worker.entry import JobRunner

    data = PreparedData.open(data_dir)
    job = RetrainJob(
        arch=arch, proxy=PROXY, data_dir=str(data_dir), data_digest=data.digest, device="cpu", threads=1,
        training=STANDALONE, seed=seed,
    )  # fmt: skip
    result = JobRunner()(job.model_dump(mode="json"))
    return {
        "arch_id": arch.arch_id, "seed": seed, "flops": result["flops"], "error": result["error"],
        "test_error": result["test_error"], "seconds": round(result["seconds"], 1),
    }  # fmt: skip
