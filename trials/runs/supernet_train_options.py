"""The options of `supernet train`, except how the networks of a step are picked and trained (`SupernetConfig`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from sret_nas.space.search_space import SearchSpace

from .engine_options import ComputeOptions, PrecisionOptions
from .option_groups import BudgetOptions, ProxyOptions, StoredLabelOptions, SupernetTrainingOptions, TargetOptions

CHANGEABLE = {"device", "threads", "data", "data_root", "soft_labels"}
"""Options that may change when a training is resumed; images and labels must be the same, wherever they lie."""

OF_SEARCHES = frozenset(
    {
        "latency_budget", "latency_batch", "from_scratch", "supernet", "score_images", "fine_tune_images", "finalists",
        "rivals", "strategy", "objectives", "rungs", "eta", "trials", "population", "engine", "ray_address",
        "gpus_per_trial", "workers", "lookahead", "trial_timeout", "time_budget", "gpu_hours", "storage",
        "train_images", "epochs",
    }
)  # fmt: skip
"""Options of searches that earlier versions recorded with a training, under the names of those versions.

They always had their defaults, so they are dropped when a training is read.
"""


class SupernetTrainOptions(
    TargetOptions, BudgetOptions, ProxyOptions, StoredLabelOptions, SupernetTrainingOptions, ComputeOptions,
    PrecisionOptions,
):  # fmt: skip
    """The options of `supernet train`."""

    typed_as: ClassVar[Mapping[str, str]] = {"supernet_images": "--images"}

    @property
    def given_threads(self) -> int | None:
        """The CPU threads of a process if they were given, else None."""
        return self.threads if "threads" in self.model_fields_set else None

    def load_space(self, base: SearchSpace | None = None) -> SearchSpace:
        return self.load_space_at_full_depth(base)
