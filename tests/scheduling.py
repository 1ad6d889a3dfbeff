"""Says in which order, and which together, `pytest -n` hands test files to its processes.

A process gets whole files, so that a file's fixtures are made once. The files that take longest come first: whichever
is last to begin is then short, and no process waits long for another. The marks of pytest-xdist for what belongs
together have no effect with pytest 9.2 (https://github.com/pytest-dev/pytest-xdist/issues/1386).
"""

from __future__ import annotations

import os

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = {
    "tests/trials/distributed/test_ray_group.py": "ray",
    "tests/trials/engines/test_ray.py": "ray",
    "tests/trials/engines/test_ray_driver.py": "ray",
    "tests/trials/engines/test_ray_tune.py": "ray",
    "tests/trials/runs/test_create_engine.py": "ray",
    "tests/sret_nas/nn/test_export.py": "exported",
    "tests/sret_nas/nn/test_exported_model.py": "exported",
    "tests/sret_nas/nn/test_quantization.py": "exported",
    "tests/trials/runs/test_copied_searches.py": "s3",
    "tests/trials/runs/test_remote_storage.py": "s3",
}
"""Files of which no two run at the same time, by the name of what they share: a fixture of the session that takes
seconds. A Ray with several nodes, which is one, also needs most of the machine."""

LONGEST = (
    "tests/trials/distributed/test_ray_group.py",
    "tests/trials/engines/test_ray_tune.py",
    "tests/trials/engines/test_ray.py",
    "tests/trials/engines/test_ray_driver.py",
    "tests/trials/search/test_search.py",
    "tests/trials/search/test_resumed_searches.py",
    "tests/trials/strategies/test_strategies.py",
    "tests/trials/strategies/test_optuna.py",
    "tests/trials/strategies/test_evolution.py",
    "tests/sret_nas/nn/test_extracted_networks.py",
    "tests/sret_nas/nn/test_supernet_coverage.py",
    "tests/trials/search/test_recommend.py",
    "tests/sret_nas/nn/test_export.py",
    "tests/test_golden.py",
    "tests/trials/search/test_early_stopping.py",
    "tests/trials/search/test_supernet.py",
    "tests/benchmarks/test_against.py",
    "tests/sret_nas/nn/test_flops_of_spaces.py",
    "tests/sret_nas/arch/test_cost.py",
    "tests/trials/integrations/test_ray_searcher.py",
    "tests/trials/integrations/test_optuna_sampler.py",
    "tests/sret_nas/feasible/test_feasible_set.py",
    "tests/trials/supernet/test_training.py",
    "tests/trials/runs/test_copied_searches.py",
    "tests/trials/training/test_full.py",
    "tests/test_wheel.py",
    "tests/test_examples.py",
    "tests/benchmarks/test_sret_bench.py",
    "tests/trials/training/test_devices.py",
    "tests/trials/workflows/test_export_size.py",
    "tests/trials/search/test_soft_labels.py",
    "tests/trials/search/test_variants.py",
    "tests/test_docs.py",
    "tests/sret_nas/optimize/test_branch_and_bound.py",
    "tests/trials/worker/test_evaluate.py",
    "tests/trials/studies/test_run.py",
    "tests/trials/workflows/test_export_network.py",
    "tests/trials/strategies/test_additive.py",
    "tests/trials/search/test_lost_directory.py",
    "tests/trials/workflows/test_landscape.py",
    "tests/trials/workflows/test_predict_data.py",
    "tests/trials/data/test_preparation.py",
    "tests/trials/runs/test_full_disk.py",
    "tests/benchmarks/test_gpu.py",
    "tests/trials/search/test_latency.py",
)
"""Files that take longer than all others, the longest first. One that is missing here costs time, and nothing else."""


NICENESS = 4
"""Of processes that did not begin with the longest file. At 4, a process gets 2/5 of the core time of one at 0."""


class FileScheduling(LoadFileScheduling):
    """Hands out whole files, in the order in which their tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)


def sort_longest_first(items: list[pytest.Item]) -> None:
    """Sorts tests by the place of their file among the `LONGEST`; all others stay in order after them."""
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))


def leave_cores_to_the_longest(first: pytest.Item) -> None:
    """Lowers the priority of this process, unless its first test belongs to the group of the longest file.

    That group takes nearly as long as the suite. What the others leave undone meanwhile, they do while it waits.
    """
    file = first.nodeid.partition("::")[0]
    if TOGETHER.get(file, file) != TOGETHER[LONGEST[0]]:
        os.nice(NICENESS)
