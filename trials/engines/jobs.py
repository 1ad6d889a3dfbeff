"""Jobs: what the driver of a search asks of its workers."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.latency.profile import Part
from sret_nas.space.search_space import DepthSchedule, SearchSpace

from ..data import DataConfig
from ..training.full_recipe import Recipe
from ..training.prepared_labels import SoftLabelSource
from ..training.recipe import Precision, ProxyConfig, RequestedPrecision, TrainingConfig
from .message import Message

SHALLOW_IMAGES = 1000
"""Validation images for scores below the full recursion depth that are only reported, so that a sample is enough."""


class JobContext(Message):
    """The fields common to all jobs of a search that use images."""

    proxy: ProxyConfig
    data_dir: str
    """Folder of prepared images (`trials.data`)."""
    data_digest: str
    """Digest of the images with which the search began."""
    device: str = "auto"
    threads: int = 1
    """CPU threads of torch in the worker."""
    precision: Precision = "fp32"
    """Precision of training and scoring; searches of earlier versions, which recorded none, computed in fp32."""
    balanced_error: bool = False
    """Whether errors are means over classes instead of over images."""
    soft_labels: SoftLabelSource | None = None
    """What all trainings learn in place of the images' classes; None for these."""


class _Job(JobContext):
    arch: ArchConfig
    """The target; the worker derives the proxy network from it."""


class WeightsSource(Message):
    """A file of trained weights."""

    path: str
    digest: str
    """SHA-256 of the file's content."""


class SupernetSource(WeightsSource):
    """The file of a trained supernet."""


class PartialScore(Message):
    """The score of inherited weights on the first validation images."""

    images: int
    error: float
    cross_entropy: float
    error_by_depth: tuple[float, ...] = ()
    """As in `TrialResult`, if every depth is scored."""


class _TrialJob(_Job):
    depth_schedule: DepthSchedule
    seed: int
    """Seed of the search. The trial's own depends on it, the proxy network and the schedule (`trial_seed`)."""
    budget: Budget = Budget()
    """Checked again before anything is built."""
    latency_us: int | None = None
    """The target's predicted latency in microseconds, if the search uses latency."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the whole trial at which it stops."""
    scores_depths: bool = False
    """Whether every recursion depth is scored, on the same images as the full depth."""


class ScratchTrialJob(_TrialJob):
    """A job to train the proxy network of `arch` from scratch, for a fraction of its training, and score it."""

    kind: Literal["scratch trial"] = "scratch trial"
    weights_path: str | None = None
    """Where to save the trained proxy weights, if anywhere."""
    checkpoint_from: str | None = None
    """Checkpoint from which to resume; if the file does not exist, training starts anew."""
    checkpoint_to: str | None = None
    """Where to save a checkpoint when the fraction is reached."""


class InheritedTrialJob(_TrialJob):
    """A job to score the proxy network of `arch` with a supernet's weights, on a fraction of the validation images."""

    kind: Literal["inherited trial"] = "inherited trial"
    supernet: SupernetSource
    val_images_per_trial: int | None = None
    """Validation images that score a whole trial; all by default."""
    known: PartialScore | None = None
    """The score of an earlier rung of the trial."""
    fine_tuning: TrainingConfig | None = None
    """How to fine-tune the weights before scoring, if at all. Such a trial has no rungs."""

    @model_validator(mode="after")
    def _check_rungs(self) -> Self:
        if self.fine_tuning is not None and (self.fraction < 1 or self.known is not None):
            raise ValueError("a trial that is fine-tuned has no rungs")
        return self


TrialJob = ScratchTrialJob | InheritedTrialJob


class FrontTestJob(_Job):
    """A job to score trained proxy weights on the test part."""

    kind: Literal["test"] = "test"
    weights_path: str


class RetrainJob(_Job):
    """A job to retrain a finalist of a search, and score it on the whole validation and test parts.

    With a supernet, its weights are inherited, scored and fine-tuned; without one, it is trained from scratch.
    """

    kind: Literal["final"] = "final"
    training: TrainingConfig
    depth_schedule: DepthSchedule = "full"
    """The recursion depths at which it is trained. With several, every depth is scored."""
    seed: int
    supernet: SupernetSource | None = None
    is_from_scratch: bool = False
    """Whether it is trained from scratch all the same. The supernet then only tells the error with its weights."""
    weights_path: str | None = None
    """Where to save the trained proxy weights, if anywhere."""


class SpeedJob(_Job):
    """A job to measure the speed of training over a few real steps."""

    kind: Literal["speed"] = "speed"
    steps: int = 6
    requested: RequestedPrecision | None = None
    """Precision to choose on the worker's device, in place of `precision`; the result names what was chosen."""


class SupernetSpeedJob(JobContext):
    """A job to measure, on a supernet whose weights are discarded, how long its training steps and its scores take."""

    kind: Literal["supernet speed"] = "supernet speed"
    space: SearchSpace
    budget: Budget
    training: TrainingConfig
    depth_schedule: DepthSchedule = "full"
    """How the search trains its supernet."""
    seed: int
    steps: int = 5
    training_threads: int | None = None
    """CPU threads that train; None measures no training. `threads` are those that score."""
    scored: Annotated[tuple[ArchConfig, ...], Field(min_length=1)]
    """Targets of networks that are scored."""


class LatencyJob(Message):
    """A job to time forward passes of parts and of whole networks in evaluation mode."""

    kind: Literal["latency"] = "latency"
    device: str = "auto"
    threads: int = 1
    """CPU threads of torch in the worker."""
    batch_size: int = 1
    parts: tuple[Part, ...] = ()
    networks: tuple[ArchConfig, ...] = ()


class LandscapeJob(Message):
    """A job to compute the losses of a trained network at one point of the plane that two directions span."""

    kind: Literal["landscape"] = "landscape"
    network: WeightsSource
    """The file of the network, as `SReT.save` writes it."""
    data_dir: str
    """Folder of the images (`trials.training.landscape_images`)."""
    data_digest: str
    """Digest of the folder's content."""
    device: str = "auto"
    threads: int = 1
    """CPU threads of torch in the worker."""
    batch_size: int
    directions: tuple[str, str]
    """Keys of both directions (`sret_nas.nn.directions`)."""
    x: float
    y: float
    """The point, in units of the directions."""
    recursions: tuple[int, ...] | None = None
    """The largest number of recursions to run in each stage; None runs all."""
    renews_statistics: bool = False
    """Whether the stem's BatchNorm statistics are computed anew at the point, on images of the folder."""
    weight_decay: float | None = None
    """Factor of the weight decay that is part of the training's loss; None if that loss is not computed."""


class StudyTrainingJob(Message):
    """A job to train one variant of a study whole, on one seed, and to score it on the test part."""

    kind: Literal["study training"] = "study training"
    directory: str
    """Folder of the training: checkpoint, metrics, model directories. A training that was begun there goes on."""
    arch: ArchConfig
    recipe: Recipe
    depth_schedule: DepthSchedule
    seed: int
    data: DataConfig
    data_digest: str
    teacher: str | None = None
    """Model directory of the teacher; None for the images' classes."""
    hard_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the images' classes in the labels, beside the teacher's probabilities."""
    depths: bool = False
    """Whether to score smaller numbers of recursions as well."""
    device: str = "auto"
    threads: int = 1
    """CPU threads of torch in the worker."""
    is_probe: bool = False
    """Whether only a few steps are timed, and nothing is written."""


Job = (
    ScratchTrialJob
    | InheritedTrialJob
    | FrontTestJob
    | RetrainJob
    | SpeedJob
    | SupernetSpeedJob
    | LatencyJob
    | LandscapeJob
    | StudyTrainingJob
)


_JOB: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


def parse_job(payload: dict[str, Any]) -> Job:
    """Returns the job in a JSON object. Raises `pydantic.ValidationError` if it holds none."""
    return _JOB.validate_python(payload)


def trial_seed(seed: int, proxy_id: str, depth_schedule: str) -> int:
    """Returns the seed of a trial, which does not depend on the order of trials.

    It depends on the proxy network, not on the target. Two targets may have the same proxy (say 8 or 16 groups for 4
    tokens). They are then trained identically and tie, so that chance does not choose between them.
    """
    digest = hashlib.sha256(f"{seed}/{proxy_id}/{depth_schedule}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
