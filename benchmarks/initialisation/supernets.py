"""Trains a supernet from one initialisation and scores the networks of `benchmarks/ranking` with what they inherit."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from benchmarks.ranking.setting import PROXY, SPACE, networks
from benchmarks.ranking.supernets import RECIPE
from benchmarks.recorded import Line

IMAGES = 84_000
"""Read in a training: what the supernet of 60 s in `benchmarks/ranking` read."""
SCORED_IMAGES, SCORED_AT_ONCE = 2_000, 250


def train_and_score(scheme: str, seed: int, data_dir: Path) -> Line:
    """Trains a supernet with the defaults of `supernet train`, in this process, on one thread, and scores subnets."""
    from benchmarks.initialisation.schemes import SCHEMES
    from sret_nas.arch.budget import Budget
    from trials.data import PreparedData
    from trials.distributed.processes import process_group
    from trials.supernet.config import SupernetConfig
    from trials.supernet.inherit import SubnetScorer
    from trials.supernet.networks import extreme
    from trials.supernet.spec import TrainingSpec
    from trials.supernet.training import SupernetTraining
    from trials.training.devices import compute_with
    from trials.training.recipe import TrainingConfig

    compute_with(1)
    began = time.process_time()
    data = PreparedData.open(data_dir)
    config = SupernetConfig(training=TrainingConfig(images=IMAGES, **RECIPE))
    spec = TrainingSpec(space=SPACE, budget=Budget(), proxy=PROXY, config=config, seed=seed)
    with TemporaryDirectory() as directory, process_group("cpu") as processes:
        training = SupernetTraining(Path(directory), spec, data, processes)
        supernet = training.state.supernet
        SCHEMES[scheme].apply(supernet, seed)
        supernet.train()
        losses = [training.train_step(*batch) for batch in islice(training.batches(0), training.steps)]
    scorer = SubnetScorer(supernet.eval(), data, SCORED_AT_ONCE, SCORED_IMAGES)
    errors = [scorer.score(arch).error for arch in networks()]
    finite = [loss for loss in losses if loss is not None]
    return {
        "scheme": scheme, "seed": seed, "images": IMAGES, "steps": training.steps,
        "train_loss": round(fmean(finite[-len(finite) // 10 :]), 5),
        "mean_error": round(fmean(errors), 5),
        "smallest_error": scorer.score(extreme(SPACE, Budget(), "cheapest")).error,
        "largest_error": scorer.score(extreme(SPACE, Budget(), "most_expensive")).error,
        "errors": errors,
        "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip
