"""The plan that a search announces: its expected time, from measured steps and scores, and costs of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.errors import UserError
from sret_nas.quantities import format_seconds
from sret_nas.space.search_space import DepthSchedule

from ..data import PreparedData
from ..engines.engine import Engine
from ..engines.jobs import SHALLOW_IMAGES, JobContext, SpeedJob, SupernetSpeedJob
from ..engines.results import SpeedResult, SupernetSpeedResult
from ..machine import num_cores
from ..runs.options import FINE_TUNING_SHARE, SearchOptions
from ..runs.recommendation import SHARES, max_evaluations
from ..strategies.sret import SReTDomain
from ..strategies.strategy import Candidate, StrategyName
from ..strategies.structure import MIN_RESULTS
from ..training.depth_schedule import mean_depth_counts
from ..training.recipe import Precision, ProxyConfig, RequestedPrecision, proxy_arch
from .finalists import with_both_ends
from .measuring import run_measurement
from .recommend import cost_and_limit
from .supernet import SupernetProvision

TRAINING_PER_FORWARD = 3
"""Cost of a training step relative to a forward pass: the backward pass costs about two."""
SAMPLES = 32
"""Candidates, spread over the logarithm of FLOPs as trials are, whose mean cost is taken as the cost of a trial."""
SCORED = 2
"""Candidates, spread over the samples, whose scores with a supernet's weights are timed."""
RESULTS_SECONDS, RESULTS_SECONDS_PER_TRIAL = 5.0, 0.03
"""What pictures, report and files take at the end of a search (benchmarks/plans). The first is imports of libraries for
the most part, the second fitting the model to all trials."""
SECONDS_OF_ASKING: dict[StrategyName, float] = {"additive": 0.1, "evolution": 0.02, "gp": 1.5, "gp_design": 1.5}
"""Processor seconds of a proposal, by strategy, about as benchmarks/asking and benchmarks/search measured them; that of
others is nothing beside the rest."""
SECONDS_OF_RECORDING = 0.03
"""Processor seconds of the search's own process for each trial: records, journal and report."""


def require_device(options: SearchOptions) -> None:
    """Raises `UserError` if a GPU is named that this machine does not have. On Ray, only the workers know theirs."""
    if options.engine == "local" and options.device not in ("auto", "cpu"):
        from ..training.devices import device_of  # imports torch, which a driver can do without

        device_of(options.device)


def require_gpu(options: SearchOptions, device: str) -> None:
    """Raises `UserError` if `--gpu-hours` is given but `device`, on which trials run, is the CPU."""
    if options.gpu_hours is not None and device == "cpu":
        raise UserError(
            f"--gpu-hours {options.gpu_hours:g} goes with a GPU, and trials run on the CPU here: "
            "give --time-budget, which bounds the wall time anywhere"
        )


def require_rungs(options: SearchOptions, proxy: ProxyConfig, data: PreparedData) -> None:
    """Raises `UserError` if the first rung has less than a batch or, with inherited weights, less than one image."""
    num_images, least, what = proxy.training.images, proxy.training.batch_size, "training"
    if not options.no_supernet:
        num_images, least, what = min(len(data.val), options.val_images_per_trial or len(data.val)), 1, "validation"
    first = int(options.make_rungs().fractions[0] * num_images)
    if options.rungs > 1 and first < least:
        raise UserError(
            f"--rungs {options.rungs} leaves {first} of {num_images:,} {what} images for the first rung, and at least "
            f"{least} are needed: lower --rungs" + (" or --batch-size, or raise --train-images" if least > 1 else "")
        )


class Plan:
    """The expected times of a search.

    They follow from the training speed of one typical candidate and, with a supernet, some of its steps and scores.
    Both are measured in a worker, which also checks that training works on this machine.
    """

    def __init__(
        self, engine: Engine, domain: SReTDomain, options: SearchOptions, context: JobContext,
        supernet: SupernetProvision | None, requested: RequestedPrecision | None = None, is_trained: bool = False,
    ) -> None:  # fmt: skip
        """Measures the training speed, in the context's precision or in the one that the worker chooses.

        Args:
            requested: Which precision to choose on the worker's device; None keeps the context's.
            supernet: How the supernet is trained, or its file; None if trials train from scratch.
            is_trained: Whether its training has ended, in a search that is resumed.

        Raises what `run_measurement` does.
        """
        self._engine, self.space, self.options, self.supernet = engine, domain.space, options, supernet
        self.proxy, self.threads = context.proxy, context.threads
        self.to_train = None if supernet is None or is_trained else supernet.config
        """How the supernet is going to be trained; None if no training of one is left."""
        candidates = domain.draw_stratified(np.random.default_rng(0), SAMPLES, by="flops")
        candidates.sort(key=lambda candidate: cost_of(candidate.arch).flops)
        self.samples = [candidate.arch for candidate in candidates]
        """Networks spread over cost, by FLOPs: what trials are expected to be."""
        self.recommended = [_nearest_below(share, domain, options, candidates) for share in SHARES]
        """Networks that cost what is recommended, the most expensive first."""
        job = SpeedJob(arch=self.samples[SAMPLES // 2], requested=requested, **dict(context))
        self._speed = SpeedResult.model_validate(self._measure(job, "a proxy's training"))
        self._supernet_speed = None if supernet is None else self._measured_supernet(context, supernet)

    def _measured_supernet(self, context: JobContext, supernet: SupernetProvision) -> SupernetSpeedResult:
        """Measures the training of the supernet, if there is any left, and scores with its weights."""
        to_train = self.to_train
        job = SupernetSpeedJob(
            **dict(context.model_copy(update={"precision": self.precision})),
            space=self.space,
            budget=self.options.budget,
            training=self.proxy.training if to_train is None else to_train.training,
            depth_schedule="full" if to_train is None else to_train.depth_schedule,
            seed=self.options.seed,
            training_threads=None if to_train is None else supernet.threads,
            scored=tuple(self.samples[(2 * position + 1) * SAMPLES // (2 * SCORED)] for position in range(SCORED)),
        )
        return SupernetSpeedResult.model_validate(self._measure(job, "the supernet's training"))

    def _measure(self, job: SpeedJob | SupernetSpeedJob, what: str) -> dict[str, Any]:
        return run_measurement(self._engine, job, f"measuring {what}", "lower --batch-size or --image-size")

    @property
    def device(self) -> str:
        """The device on which the worker trains."""
        return self._speed.device

    @property
    def precision(self) -> Precision:
        """The precision of the measured training: the one in which trials train."""
        return self._speed.precision

    @property
    def trial_seconds(self) -> float:
        """The expected seconds of a trial, averaged over networks and their depth schedules."""
        return self._mean_trial_seconds(self.samples)

    def _mean_trial_seconds(self, archs: Sequence[ArchConfig]) -> float:
        """Returns the expected seconds of a trial, averaged over some networks."""
        options, speed = self.options, self._speed
        images = min(speed.num_val_images, options.val_images_per_trial or speed.num_val_images)
        depths: DepthSchedule = "joint" if options.scores_depths else "full"
        if self._supernet_speed is None:
            trained = self.proxy.training.images * fmean(
                self.flops_per_image([arch], schedule)
                for arch in archs
                for schedule in self.space.effective_schedules(arch)
            )
            # At all smaller numbers of recursions, if they are to be scored, or else on some images.
            deepest, others = self.flops_per_image(archs, "full"), self.flops_per_image(archs, "joint")
            few = images if options.scores_depths else min(images, SHALLOW_IMAGES)
            return self._training_seconds(trained) + self._scoring_seconds(images * deepest + few * (others - deepest))
        if options.fine_tune_images > 0:
            forward = self.flops_per_image(archs, depths)
            return self._training_seconds(options.fine_tune_images * forward) + self._scoring_seconds(images * forward)
        return self._inherited_seconds(archs, images, depths)

    def _inherited_seconds(self, archs: Sequence[ArchConfig], images: int, depths: DepthSchedule) -> float:
        """Returns the mean seconds of scoring networks with a supernet's weights."""
        speed = self._supernet_speed
        assert speed is not None
        deepest, forward = self.flops_per_image(archs, "full"), self.flops_per_image(archs, depths)
        more = max(0, images - speed.first_images) * forward * speed.seconds_per_flop
        return speed.first_batch_seconds * forward / deepest + more

    def _training_seconds(self, flops: float) -> float:
        """Returns the seconds of training a network, from the forward FLOPs of all images it sees."""
        return self._speed.start_seconds + flops * _seconds_per_flop(self._speed)

    def _scoring_seconds(self, flops: float) -> float:
        """Returns the seconds of scoring a trained network, from the FLOPs of all images."""
        return flops * _seconds_per_flop(self._speed) / TRAINING_PER_FORWARD

    def all_trials_seconds(self, num_trials: int) -> float:
        """Returns the expected wall seconds of some trials, and of those that evaluate what is recommended."""
        options = self.options
        asking = SECONDS_OF_ASKING.get(options.strategy, 0.0) + SECONDS_OF_RECORDING
        work = options.make_rungs().expected_work(num_trials)
        seconds = self.wall_seconds(work * self.trial_seconds, num_trials * asking)
        more = self.max_recommended
        return seconds + self.wall_seconds(
            more * self._mean_trial_seconds(self.recommended), more * SECONDS_OF_RECORDING
        )

    @property
    def max_recommended(self) -> int:
        """The most trials that evaluate what is recommended; 0 if nothing is."""
        options = self.options
        if options.best_by == "proxy" or options.trials < MIN_RESULTS:
            return 0
        return max_evaluations(from_scratch=options.no_supernet)

    @property
    def at_once(self) -> int:
        """How many trials run at once."""
        return self._engine.capacity

    @property
    def supernet_seconds(self) -> float:
        """The expected seconds of the supernet's training; 0 if none is trained."""
        speed, to_train = self._supernet_speed, self.to_train
        if speed is None or to_train is None:
            return 0.0
        assert speed.start_seconds is not None
        assert speed.step_seconds is not None
        return speed.start_seconds + self._supernet_steps * speed.step_seconds / self._supernet_processes

    @property
    def _supernet_steps(self) -> float:
        assert self.to_train is not None
        training = self.to_train.training
        return training.images / training.batch_size

    @property
    def _supernet_processes(self) -> int:
        return 1 if self.supernet is None else self.supernet.processes or 1

    @property
    def finals_seconds(self) -> float:
        """The expected wall seconds of training and testing all finalists and controls."""
        if self.supernet is None:
            return 0.0
        options = self.options
        fine_tuned = self._retraining_seconds(FINE_TUNING_SHARE, self._finalists) + self._inherited_seconds(
            self._finalists, self._speed.num_val_images, "full"
        )
        return (options.finalists * fine_tuned + 2 * options.controls * self.control_seconds) / self.at_once

    @property
    def control_seconds(self) -> float:
        """The expected seconds of training and scoring a control, or a finalist from scratch, at the depths scored."""
        return self._retraining_seconds(1.0, self._finalists)

    @property
    def _finalists(self) -> list[ArchConfig]:
        """Networks that cost what finalists cost."""
        if self.max_recommended == 0 or self.options.finalists == 0:
            return self.samples
        return with_both_ends(self.recommended, self.options.finalists)

    def _retraining_seconds(self, fraction: float, archs: Sequence[ArchConfig]) -> float:
        """Returns the mean seconds of training networks on a fraction of the images, and of scoring all parts."""
        depths: DepthSchedule = "joint" if self.options.scores_depths else "full"
        forward, speed = self.flops_per_image(archs, depths), self._speed
        scored = self._scoring_seconds((speed.num_val_images + speed.num_test_images) * forward)
        return self._training_seconds(fraction * self.proxy.training.images * forward) + scored

    def wall_seconds(self, workers: float, driver: float) -> float:
        """Returns the seconds in which workers do some seconds of work, and this process some beside them."""
        no_core_is_left = self.device == "cpu" and self.at_once * self.threads >= num_cores()
        return max((workers + driver * no_core_is_left) / self.at_once, driver)

    def whole_seconds(self, num_trials: int, spent: float) -> float:
        """Returns the expected wall seconds of the whole search, with those that were spent before."""
        trials = self.all_trials_seconds(num_trials)
        return spent + self.supernet_seconds + trials + self.finals_seconds + self.results_seconds

    @property
    def results_seconds(self) -> float:
        """The expected seconds of writing the results."""
        return RESULTS_SECONDS + RESULTS_SECONDS_PER_TRIAL * self.options.trials

    @property
    def images_per_second(self) -> tuple[float, float] | None:
        """The training speed of the supernet with its threads, and that of networks alone with a worker's.

        Both are of networks of equal FLOPs. None if no supernet is trained, or with as many threads.
        """
        if self.to_train is None or self._supernet_speed is None or self._supernet_speed.step_seconds is None:
            return None
        if self.supernet is None or self.supernet.threads == self.threads:
            return None
        flops = self.flops_per_image(self.samples, self.to_train.depth_schedule)
        alone = 1 / (_seconds_per_flop(self._speed) * flops)
        return self.to_train.training.batch_size / self._supernet_speed.step_seconds, alone

    def require_time(self, spent: float) -> None:
        """Raises `UserError` if `--time-budget` or `--gpu-hours` leaves no room for a single trial.

        Args:
            spent: Wall seconds since the search began.
        """
        options, least = self.options, self.supernet_seconds + self.trial_seconds
        what = "a trial, which takes" if self.supernet_seconds == 0 else "the supernet and a trial, which take"
        if options.time_budget is not None and spent + least > options.time_budget:
            raise UserError(
                f"a time budget of {format_seconds(options.time_budget)} is too short for {what} about "
                f"{format_seconds(least)} after {format_seconds(spent)} of preparation: raise --time-budget"
                + ("" if self.supernet_seconds == 0 else ", or lower --supernet-images")
            )
        working = self._supernet_processes * self.supernet_seconds + self.trial_seconds
        if options.gpu_hours is not None and working > 3600 * options.gpu_hours:
            raise UserError(
                f"{options.gpu_hours:g} GPU-hours are too few for {what} about {working / 3600:.3g}: raise --gpu-hours"
            )

    def require_timeout(self) -> None:
        """Raises `UserError` if `--trial-timeout` would end a trial that takes as long as planned."""
        timeout, expected = self.options.trial_timeout, self.trial_seconds
        if timeout is not None and expected > timeout:
            raise UserError(
                f"--trial-timeout {format_seconds(timeout)} would end every typical trial, which takes about "
                f"{format_seconds(expected)}: raise it, or leave it out"
            )

    def flops_per_image(self, targets: Sequence[ArchConfig], schedule: DepthSchedule) -> float:
        """Returns the mean forward FLOPs of the targets' proxies per training image, at the schedule's depths."""
        speed = self._speed
        costs = []
        for target in targets:
            arch = proxy_arch(target, self.proxy, channels=speed.channels, classes=speed.classes)
            counts = mean_depth_counts(schedule, arch.max_recursions)
            costs.append(sum(count * cost_of(arch.with_max_recursions(depth)).flops for depth, count in counts.items()))
        return fmean(costs)


def _nearest_below(
    share: float, domain: SReTDomain, options: SearchOptions, candidates: Sequence[Candidate]
) -> ArchConfig:
    """Returns the candidate whose cost is the nearest below a share of what bounds the search, or the cheapest one."""
    cost, limit = cost_and_limit(options, candidates)
    axis = domain.chain.cost_names.index(cost)

    def cost_of_candidate(candidate: Candidate) -> float:
        return domain.costs(candidate)[axis]

    most = max(map(cost_of_candidate, candidates))
    if most < SHARES[1] * limit:  # the budget is out of reach, as in `recommend`; candidates may miss the end by less
        limit = int(most)
    inside = [candidate for candidate in candidates if cost_of_candidate(candidate) <= share * limit]
    return (max(inside, key=cost_of_candidate) if inside else min(candidates, key=cost_of_candidate)).arch


def _seconds_per_flop(speed: SpeedResult) -> float:
    """Returns the seconds of training on one image, per forward FLOP."""
    return 1 / (speed.images_per_second * speed.proxy_flops)
