"""What the driver of a search asks of a worker, and what it gets back: plain data that travels as JSON.

Images and weights travel as paths, never by value.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.latency.profile import Part
from sret_nas.space.search_space import DepthSchedule

from ..training.recipe import ProxyConfig, TrainingConfig

FailureCause = Literal[
    "diverged", "out of memory", "refused", "exception", "worker died", "timed out", "disk full", "images changed"
]  # fmt: skip
"""`refused`: something the user asked for cannot be had here, e.g. a device that is not there."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobContext(_Message):
    """What all jobs of a search that look at images have in common."""

    proxy: ProxyConfig
    data_dir: str
    """Folder of prepared images (`trials.data`)."""
    data_digest: str
    """Of the images that the search was begun with."""
    device: str = "auto"
    threads: int = 1
    """CPU threads of torch in the worker."""


class _Job(JobContext):
    arch: ArchConfig
    """The target; the worker derives the proxy network from it."""


class SupernetSource(_Message):
    """The file of a trained supernet."""

    path: str
    digest: str
    """SHA-256 of the file's content."""


class PartialScore(_Message):
    """What is known of inherited weights on the first validation images."""

    images: int
    error: float
    cross_entropy: float


class _TrialJob(_Job):
    depth_schedule: DepthSchedule
    seed: int
    """The search's; the trial's own comes from it, the proxy network and the schedule (`trial_seed`)."""
    budget: Budget = Budget()
    """Checked once more before anything is built."""
    latency_us: int | None = None
    """The target's predicted latency, where the search looks at it."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the whole trial, after which it is left off."""


class ScratchTrialJob(_TrialJob):
    """Train the proxy network of `arch` from scratch, for a share of its training, and score it."""

    kind: Literal["scratch trial"] = "scratch trial"
    weights_path: str | None = None
    """Where to leave the trained proxy weights, if anywhere."""
    checkpoint_from: str | None = None
    """Where a training that was left off is carried on from; where there is nothing, it begins anew."""
    checkpoint_to: str | None = None
    """Where to leave a training that is left off."""


class InheritedTrialJob(_TrialJob):
    """Score the proxy network of `arch` with a supernet's weights, on a share of the validation images."""

    kind: Literal["inherited trial"] = "inherited trial"
    supernet: SupernetSource
    score_images: int | None = None
    """Validation images of a whole trial; all by default."""
    known: PartialScore | None = None
    """What an earlier part of the trial found."""
    fine_tuning: TrainingConfig | None = None
    """How the weights are trained on before they are scored, if at all: such a trial has no parts."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.fine_tuning is not None and (self.share < 1 or self.known is not None):
            raise ValueError("a trial that is fine-tuned has no parts")
        return self


TrialJob = ScratchTrialJob | InheritedTrialJob


class FrontTestJob(_Job):
    """Score trained proxy weights on the test part."""

    kind: Literal["test"] = "test"
    weights_path: str


class RetrainJob(_Job):
    """Train one of a search's final networks, score it on the whole validation part and on the test part.

    With a supernet its weights are inherited and trained on, without one it is trained from scratch.
    """

    kind: Literal["final"] = "final"
    training: TrainingConfig
    seed: int
    supernet: SupernetSource | None = None
    weights_path: str | None = None
    """Where to leave the trained proxy weights, if anywhere."""


class SpeedJob(_Job):
    """Measure how long a trial takes: a few real training steps."""

    kind: Literal["speed"] = "speed"
    steps: int = 6


class LatencyJob(_Message):
    """Time parts and whole networks here: a forward pass in evaluation mode, each by itself."""

    kind: Literal["latency"] = "latency"
    device: str = "auto"
    threads: int = 1
    """CPU threads of torch in the worker."""
    batch_size: int = 1
    parts: tuple[Part, ...] = ()
    networks: tuple[ArchConfig, ...] = ()


class TargetCost(_Message):
    """FLOPs (fvcore's multiply-adds) and parameters of a network, with the input they hold for."""

    flops: int
    params: int
    image_size: int
    classes: int
    latency_us: int | None = None
    """Predicted, in microseconds, where the search looks at it; the header of the records says of which device."""


class TrialResult(_Message):
    """What a trial found, to its end or to where it was left off."""

    share: float = 1.0
    """Of the trial's whole length: 1 for a finished one."""
    error: float
    """Top-1 validation error, 0 to 1."""
    cross_entropy: float
    """Mean validation cross-entropy in nats."""
    error_by_depth: list[float]
    """Validation error with at most 1, 2, ... recursions; the last is `error`, the others are of fewer images.

    Of inherited weights, which are trained for every depth by themselves, and of a trial that was left off, `error`
    alone."""
    val_images: int = 0
    """Validation images that `error` is of; 0 in records from before they were kept."""
    train_loss: float | None
    """None where nothing was trained."""
    train_steps: int
    train_images: int
    train_seconds: float
    seconds: float
    """The job: building, training, scoring, saving."""
    target: TargetCost
    proxy: TargetCost
    proxy_arch: ArchConfig
    device: str
    peak_memory_mb: float
    """Largest resident memory of the worker process so far; on a GPU, largest memory torch allocated there."""


class RetrainResult(_Message):
    """Errors (0 to 1) and cross-entropies (nats) of a final network, on the whole validation and test parts."""

    arch: ArchConfig
    """The target."""
    flops: int
    params: int
    """FLOPs and parameters of the target."""
    inherited_error: float | None
    """Validation error before training on; None for a network trained from scratch."""
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
    proxy_flops: int
    """Of one image, forward."""
    classes: int
    channels: int


class LatencyTimes(_Message):
    """Microseconds of several passes of each part and each network, and where they were measured."""

    parts: list[list[float]]
    networks: list[list[float]]
    device: str
    """`cpu` with the processor's name, or the GPU's name."""


class Failure(_Message):
    """Why a job gave no result."""

    cause: FailureCause
    message: str
    traceback: str = ""


Job = ScratchTrialJob | InheritedTrialJob | FrontTestJob | RetrainJob | SpeedJob | LatencyJob
Result = TrialResult | FrontTestResult | RetrainResult | SpeedResult | LatencyTimes

_JOB: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


def parse_job(payload: dict[str, Any]) -> Job:
    """The job that a JSON object describes."""
    return _JOB.validate_python(payload)


def trial_seed(seed: int, proxy_id: str, depth_schedule: str) -> int:
    """The seed of a trial, whatever the order in which candidates are asked for.

    It depends on the proxy network, not on the target: two targets that a small input cannot tell apart (say 8 or 16
    groups for 4 tokens) are trained alike and tie, so that chance does not choose between them.
    """
    digest = hashlib.sha256(f"{seed}/{proxy_id}/{depth_schedule}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
