"""Results: what workers answer to the driver's jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, ConfigDict, Field

from sret_nas.arch.config import ArchConfig

from ..training.recipe import Precision
from .message import Message

FailureCause = Literal[
    "diverged", "out of memory", "refused", "exception", "worker died", "timed out", "suspended",
    "disk full", "images changed",
]  # fmt: skip
"""`refused`: a user's error, e.g. a device that does not exist."""


# Losses have no bounds here: `retries` reports one that is not finite as a training that diverged, so that no record
# has such a number.
Flops = Annotated[int, Field(ge=1, le=10**18)]
"""Multiply-adds of one image, as fvcore counts them."""
Params = Annotated[int, Field(ge=1, le=10**18)]
Count = Annotated[int, Field(ge=0, le=10**18)]
ErrorRate = Annotated[float, Field(ge=0, le=1 + 1e-6)]
"""Top-1 error, 0 to 1; where classes count alike, rounding may lift it above 1."""
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Megabytes = Annotated[float, Field(ge=0, le=1e12)]


class TargetCost(Message):
    """FLOPs (multiply-adds, as fvcore counts) and parameters of a network, for an image size and number of classes."""

    flops: Flops
    params: Params
    image_size: int
    classes: int
    latency_us: Count | None = None
    """Predicted latency in microseconds, if the search uses latency. The header of the records names the device."""


class TrialResult(Message):
    """The result of a trial, at its end or at a rung."""

    model_config = ConfigDict(serialize_by_alias=True)

    fraction: Annotated[
        float, Field(validation_alias=AliasChoices("fraction", "share"), serialization_alias="share")
    ] = 1.0
    """Fraction of the whole trial that was reached: 1 for a finished trial. Records call it `share`."""
    error: ErrorRate
    """Top-1 validation error, 0 to 1."""
    cross_entropy: float
    """Mean validation cross-entropy in nats."""
    error_by_depth: list[ErrorRate]
    """Validation error with at most 1, 2, ... recursions of one file of weights. The last is `error`.

    If the job scores depths, all are on the same images. Else the others are on fewer images, and only `error` is there
    for inherited weights and at a rung before the last."""
    val_images: Count = 0
    """Validation images behind `error`; 0 in old records, which lack the number."""
    effective_images: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """How many images of equal weight would tell `error` as exactly, if classes count alike; else None."""
    train_loss: float | None
    """None if nothing was trained."""
    train_steps: Count
    train_images: Count
    train_seconds: Seconds
    seconds: Seconds
    """Duration of the job: building, training, scoring, saving."""
    target: TargetCost
    proxy: TargetCost
    proxy_arch: ArchConfig
    device: str
    peak_memory_mb: Megabytes
    """Largest resident memory of the worker process so far; on a GPU, largest memory torch allocated there."""


class RetrainResult(Message):
    """Errors (0 to 1) and cross-entropies (nats) of a finalist on the whole validation and test parts."""

    arch: ArchConfig
    """The target."""
    flops: Flops
    params: Params
    """FLOPs and parameters of the target."""
    inherited_error: ErrorRate | None
    """Validation error with inherited weights, before any training; None without a supernet, and in old records of
    networks that were trained from scratch."""
    inherited_cross_entropy: float | None
    error: ErrorRate
    cross_entropy: float
    test_error: ErrorRate
    test_cross_entropy: float
    error_by_depth: list[ErrorRate] = Field(default_factory=list)
    """Validation error with at most 1, 2, ... recursions; empty if only the full depth was trained."""
    test_error_by_depth: list[ErrorRate] = Field(default_factory=list)
    num_val_images: Count
    num_test_images: Count
    val_deviation: float | None = None
    """Standard deviation of `error` by the luck of the images, if classes count alike. Else it is None, and follows
    from the number of images."""
    test_deviation: float | None = None
    """The same of `test_error`."""
    train_images: Count
    seconds: Seconds


class FrontTestResult(Message):
    """Test error (0 to 1) and cross-entropy (nats) of trained proxy weights."""

    error: ErrorRate
    cross_entropy: float
    num_images: Count


class SpeedResult(Message):
    """Training speed of a proxy network at full depth, and where it was measured."""

    images_per_second: float
    start_seconds: Seconds
    """What a training takes beside its steps: building, first passes, which are slow, and BatchNorm's statistics."""
    num_val_images: Count
    num_test_images: Count
    device: str
    precision: Precision = "fp32"
    """Precision of the measured steps."""
    proxy_flops: Flops
    """FLOPs of one forward pass with one image."""
    classes: int
    channels: int


class SupernetSpeedResult(Message):
    """How long a supernet's training and the scores of its networks take."""

    start_seconds: Seconds | None = None
    """Before the first step of training; None if no training was measured."""
    step_seconds: Seconds | None = None
    """A step of training, with the networks that it will train."""
    first_images: Count
    """Images of a score's first batch."""
    first_batch_seconds: Seconds
    """Extracting a network, and scoring its first batch."""
    seconds_per_flop: Seconds
    """Scoring an image of the batches after the first, per FLOP."""


class LatencyTimes(Message):
    """Microseconds of several passes of each part and each network, and where they were measured."""

    parts: list[list[float]]
    networks: list[list[float]]
    device: str
    """`cpu` with the processor's name, or the GPU's name."""


class LandscapeResult(Message):
    """Losses (nats) of a network at one point. None: the loss was not asked for, or it is not finite there."""

    cross_entropy: float | None = None
    """Mean over the images as they are evaluated."""
    error: ErrorRate | None = None
    """Top-1 error (0 to 1) on the same images."""
    augmented_cross_entropy: float | None = None
    """Mean over augmented training images, with the labels of the training."""
    weight_decay: float | None = None
    """Half the factor of weight decay times the squared norm of all weights that are decayed."""
    seconds: Seconds
    device: str


class DepthScore(Message):
    """The score of a network that is run at one depth."""

    recursions: tuple[int, ...]
    """Of each stage."""
    flops: Flops
    """Multiply-adds of one image."""
    error: ErrorRate
    """Top-1 error (0 to 1)."""
    cross_entropy: float
    """Mean, in nats."""


class EpochScore(Message):
    """What was measured after an epoch."""

    epoch: Count
    images: Count
    """Training images seen so far, counting repetitions."""
    train_loss: float | None
    """Mean since the last validation; None if no step counted."""
    error: ErrorRate
    """Top-1 error (0 to 1) on the validation part."""
    cross_entropy: float
    coefficients: dict[str, float] | None = None
    """The learnable residual coefficients by name; None if they were not measured."""


class StudyTrainingResult(Message):
    """The result of a study's training: scores of the last weights on the test part, and how it went."""

    arch_id: str
    flops: Flops
    """Multiply-adds of one image, at the full depth."""
    params: Params
    error: ErrorRate
    """Top-1 error (0 to 1) of the last weights on the test part."""
    cross_entropy: float
    """Mean, in nats."""
    test_images: Count
    depths: list[DepthScore] = Field(default_factory=list)
    """Scores at every depth, the shallowest first; empty if they were not measured."""
    epochs: list[EpochScore] = Field(default_factory=list)
    """Every validation."""
    steps: Count
    images: Count
    """Training images seen, counting repetitions."""
    skipped: Count
    """Steps without a finite loss."""
    train_seconds: Seconds
    """Time of all steps."""
    seconds: Seconds
    """Duration of the job: of the last session of a training that was interrupted."""
    precision: Precision
    device: str
    peak_memory_mb: Megabytes


class StudyProbeResult(Message):
    """How long a step of a study's training takes, with its share of the evaluations."""

    seconds_per_step: Seconds
    steps: Count
    """Of the whole training."""
    images: Count
    """Training images that it sees."""
    peak_memory_mb: Megabytes
    precision: Precision
    device: str


class Failure(Message):
    """The reason why a job has no result."""

    cause: FailureCause
    message: str
    traceback: str = ""


Result = (
    TrialResult
    | FrontTestResult
    | RetrainResult
    | SpeedResult
    | SupernetSpeedResult
    | LatencyTimes
    | LandscapeResult
    | StudyTrainingResult
    | StudyProbeResult
)
