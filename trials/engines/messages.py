"""Messages between the driver of a search and its workers: jobs and results, as plain data in JSON.

Images and weights are sent as paths, never by value.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.latency.profile import Part
from sret_nas.space.search_space import DepthSchedule

from ..data import DataConfig
from ..training.full_recipe import Recipe
from ..training.recipe import Precision, ProxyConfig, RequestedPrecision, TrainingConfig

FailureCause = Literal[
    "diverged", "out of memory", "refused", "exception", "worker died", "timed out", "suspended",
    "disk full", "images changed",
]  # fmt: skip
"""`refused`: a user's error, e.g. a device that does not exist."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobContext(_Message):
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


class _Job(JobContext):
    arch: ArchConfig
    """The target; the worker derives the proxy network from it."""


class WeightsSource(_Message):
    """A file of trained weights."""

    path: str
    digest: str
    """SHA-256 of the file's content."""


class SupernetSource(WeightsSource):
    """The file of a trained supernet."""


class PartialScore(_Message):
    """The score of inherited weights on the first validation images."""

    images: int
    error: float
    cross_entropy: float


class _TrialJob(_Job):
    depth_schedule: DepthSchedule
    seed: int
    """Seed of the search. The trial's own depends on it, the proxy network and the schedule (`trial_seed`)."""
    budget: Budget = Budget()
    """Checked again before anything is built."""
    latency_us: int | None = None
    """The target's predicted latency in microseconds, if the search uses latency."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the whole trial at which it stops."""


class ScratchTrialJob(_TrialJob):
    """A job to train the proxy network of `arch` from scratch, for a share of its training, and score it."""

    kind: Literal["scratch trial"] = "scratch trial"
    weights_path: str | None = None
    """Where to save the trained proxy weights, if anywhere."""
    checkpoint_from: str | None = None
    """Checkpoint from which to resume; if the file does not exist, training starts anew."""
    checkpoint_to: str | None = None
    """Where to save a checkpoint when the share is reached."""


class InheritedTrialJob(_TrialJob):
    """A job to score the proxy network of `arch` with a supernet's weights, on a share of the validation images."""

    kind: Literal["inherited trial"] = "inherited trial"
    supernet: SupernetSource
    val_images_per_trial: int | None = None
    """Validation images that score a whole trial; all by default."""
    known: PartialScore | None = None
    """The score of an earlier rung of the trial."""
    fine_tuning: TrainingConfig | None = None
    """How to fine-tune the weights before scoring, if at all. Such a trial has no rungs."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.fine_tuning is not None and (self.share < 1 or self.known is not None):
            raise ValueError("a trial that is fine-tuned has no parts")
        return self


TrialJob = ScratchTrialJob | InheritedTrialJob


class FrontTestJob(_Job):
    """A job to score trained proxy weights on the test split."""

    kind: Literal["test"] = "test"
    weights_path: str


class RetrainJob(_Job):
    """A job to retrain a finalist of a search, and score it on the whole validation and test splits.

    With a supernet, its weights are inherited and fine-tuned; without one, it is trained from scratch.
    """

    kind: Literal["final"] = "final"
    training: TrainingConfig
    seed: int
    supernet: SupernetSource | None = None
    weights_path: str | None = None
    """Where to save the trained proxy weights, if anywhere."""


class SpeedJob(_Job):
    """A job to measure the speed of training over a few real steps."""

    kind: Literal["speed"] = "speed"
    steps: int = 6
    requested: RequestedPrecision | None = None
    """Precision to choose on the worker's device, in place of `precision`; the result names what was chosen."""


class LatencyJob(_Message):
    """A job to time forward passes of parts and of whole networks in evaluation mode."""

    kind: Literal["latency"] = "latency"
    device: str = "auto"
    threads: int = 1
    """CPU threads of torch in the worker."""
    batch_size: int = 1
    parts: tuple[Part, ...] = ()
    networks: tuple[ArchConfig, ...] = ()


class LandscapeJob(_Message):
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


class StudyTrainingJob(_Message):
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


class TargetCost(_Message):
    """FLOPs (multiply-adds, as fvcore counts) and parameters of a network, for an image size and number of classes."""

    flops: int
    params: int
    image_size: int
    classes: int
    latency_us: int | None = None
    """Predicted latency in microseconds, if the search uses latency. The header of the records names the device."""


class TrialResult(_Message):
    """The result of a trial, at its end or at a rung."""

    share: float = 1.0
    """Share of the trial's whole length: 1 for a finished trial."""
    error: float
    """Top-1 validation error, 0 to 1."""
    cross_entropy: float
    """Mean validation cross-entropy in nats."""
    error_by_depth: list[float]
    """Validation error with at most 1, 2, ... recursions. The last is `error`; the others are on fewer images.

    Only `error` for inherited weights, where each depth is a subnet of its own, and at a rung before the last."""
    val_images: int = 0
    """Validation images behind `error`; 0 in old records, which lack the number."""
    effective_images: float | None = None
    """How many images of equal weight would tell `error` as exactly, if classes count alike; else None."""
    train_loss: float | None
    """None if nothing was trained."""
    train_steps: int
    train_images: int
    train_seconds: float
    seconds: float
    """Duration of the job: building, training, scoring, saving."""
    target: TargetCost
    proxy: TargetCost
    proxy_arch: ArchConfig
    device: str
    peak_memory_mb: float
    """Largest resident memory of the worker process so far; on a GPU, largest memory torch allocated there."""


class RetrainResult(_Message):
    """Errors (0 to 1) and cross-entropies (nats) of a finalist on the whole validation and test splits."""

    arch: ArchConfig
    """The target."""
    flops: int
    params: int
    """FLOPs and parameters of the target."""
    inherited_error: float | None
    """Validation error before fine-tuning; None for a network trained from scratch."""
    inherited_cross_entropy: float | None
    error: float
    cross_entropy: float
    test_error: float
    test_cross_entropy: float
    num_val_images: int
    num_test_images: int
    train_images: int
    seconds: float


class FrontTestResult(_Message):
    """Test error (0 to 1) and cross-entropy (nats) of trained proxy weights."""

    error: float
    cross_entropy: float
    num_images: int


class SpeedResult(_Message):
    """Training speed of a proxy network at full depth, and where it was measured."""

    images_per_second: float
    num_val_images: int
    device: str
    precision: Precision = "fp32"
    """Precision of the measured steps."""
    proxy_flops: int
    """FLOPs of one forward pass with one image."""
    classes: int
    channels: int


class LatencyTimes(_Message):
    """Microseconds of several passes of each part and each network, and where they were measured."""

    parts: list[list[float]]
    networks: list[list[float]]
    device: str
    """`cpu` with the processor's name, or the GPU's name."""


class LandscapeResult(_Message):
    """Losses (nats) of a network at one point. None: the loss was not asked for, or it is not finite there."""

    cross_entropy: float | None = None
    """Mean over the images as they are evaluated."""
    error: float | None = None
    """Top-1 error (0 to 1) on the same images."""
    augmented_cross_entropy: float | None = None
    """Mean over augmented training images, with the labels of the training."""
    weight_decay: float | None = None
    """Half the factor of weight decay times the squared norm of all weights that are decayed."""
    seconds: float
    device: str


class DepthScore(_Message):
    """The score of a network that is run at one depth."""

    recursions: tuple[int, ...]
    """Of each stage."""
    flops: int
    """Multiply-adds of one image."""
    error: float
    """Top-1 error (0 to 1)."""
    cross_entropy: float
    """Mean, in nats."""


class EpochScore(_Message):
    """What was measured after an epoch."""

    epoch: int
    images: int
    """Training images seen so far, counting repetitions."""
    train_loss: float | None
    """Mean since the last validation; None if no step counted."""
    error: float
    """Top-1 error (0 to 1) on the validation part."""
    cross_entropy: float
    coefficients: dict[str, float] | None = None
    """The learnable residual coefficients by name; None if they were not measured."""


class StudyTrainingResult(_Message):
    """The result of a study's training: scores of the last weights on the test part, and how it went."""

    arch_id: str
    flops: int
    """Multiply-adds of one image, at the full depth."""
    params: int
    error: float
    """Top-1 error (0 to 1) of the last weights on the test part."""
    cross_entropy: float
    """Mean, in nats."""
    test_images: int
    depths: list[DepthScore] = []
    """Scores at every depth, the shallowest first; empty if they were not measured."""
    epochs: list[EpochScore] = []
    """Every validation."""
    steps: int
    images: int
    """Training images seen, counting repetitions."""
    skipped: int
    """Steps without a finite loss."""
    train_seconds: float
    """Time of all steps."""
    seconds: float
    """Duration of the job: of the last session of a training that was interrupted."""
    precision: Precision
    device: str
    peak_memory_mb: float


class StudyProbeResult(_Message):
    """How long a step of a study's training takes, with its share of the evaluations."""

    seconds_per_step: float
    steps: int
    """Of the whole training."""
    images: int
    """Training images that it sees."""
    peak_memory_mb: float
    precision: Precision
    device: str


class Failure(_Message):
    """The reason why a job has no result."""

    cause: FailureCause
    message: str
    traceback: str = ""


Job = (
    ScratchTrialJob
    | InheritedTrialJob
    | FrontTestJob
    | RetrainJob
    | SpeedJob
    | LatencyJob
    | LandscapeJob
    | StudyTrainingJob
)
Result = (
    TrialResult
    | FrontTestResult
    | RetrainResult
    | SpeedResult
    | LatencyTimes
    | LandscapeResult
    | StudyTrainingResult
    | StudyProbeResult
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
