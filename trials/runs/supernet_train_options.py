"""What `supernet train` was asked to do, beside how it picks and trains the networks of a step (`SupernetConfig`)."""

from __future__ import annotations

from sret_nas.space.search_space import SearchSpace

from .engine_options import ComputeOptions
from .option_groups import BudgetOptions, ProxyOptions, SupernetTrainingOptions, TargetOptions

CHANGEABLE = {"device", "threads"}
"""Options that a resumed training may set anew."""

OF_SEARCHES = frozenset(
    {
        "latency_budget", "latency_batch", "from_scratch", "supernet", "score_images", "fine_tune_images", "finalists",
        "rivals", "strategy", "objectives", "rungs", "eta", "trials", "population", "engine", "ray_address",
        "gpus_per_trial", "workers", "lookahead", "trial_timeout", "time_budget", "gpu_hours", "storage",
        "train_images", "epochs",
    }
)  # fmt: skip
"""Options that earlier versions recorded with a training, always as they are by default."""


class SupernetTrainOptions(TargetOptions, BudgetOptions, ProxyOptions, SupernetTrainingOptions, ComputeOptions):
    """The options of `supernet train`."""

    @property
    def given_threads(self) -> int | None:
        """CPU threads of a process, if they were given."""
        return self.threads if "threads" in self.model_fields_set else None

    def load_space(self) -> SearchSpace:
        return self.load_space_at_full_depth()
