"""Latency profile of a space: which parts are timed, how, and what was measured and fitted, as data.

A forward pass is a sequence of a few kinds of parts (stem, attention, MLP, pooling, head). A search space has a few
hundred distinct parts, each of which is timed alone. Some whole networks are timed too, and show by how much the sum
over its parts misses the latency of a network. `sret_nas.latency.table` predicts latencies from both.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, NamedTuple

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictInt

from sret_nas.files import short_digest
from sret_nas.plurals import counted

MIN_FOR_TAU = 5
"""Fewest networks for which a rank correlation is shown; four networks are in order by chance once in 24."""

PartKind = Literal["stem", "attention", "mlp", "pool", "head"]


class Part(NamedTuple):
    """A part of a forward pass that is timed alone.

    `side` is the side of the square of pixels (stem) or tokens (others) that it sees. `sizes` depends on `kind`:

    - stem: channels of the image, the stem's width, the first stage's width, three strides;
    - attention (with LayerNorm and residual): width, heads, groups, and whether tokens are permuted: 0 for no, 1 for
      yes and put back into their order, 2 for yes and left as they are;
    - mlp, also for NLLs (with LayerNorm and residual): width, hidden width;
    - pool: widths before and after;
    - head: width, classes.
    """

    kind: PartKind
    side: int
    sizes: tuple[int, ...]


class MeasurementSetup(BaseModel):
    """Device, threads and batch of the measurements: one forward pass in evaluation mode, in float32."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    """`cpu` and the processor's name, or the GPU's name."""
    threads: StrictInt
    """CPU threads that torch uses."""
    batch_size: StrictInt
    torch: str
    """torch's version."""
    image_size: StrictInt

    def describe(self) -> str:
        """Returns e.g. `batch 1 of 224 px, cpu (AMD EPYC), 1 thread, torch 2.15.0`."""
        threads = counted(self.threads, "thread")
        return f"batch {self.batch_size} of {self.image_size} px, {self.device}, {threads}, torch {self.torch}"


class FitQuality(BaseModel):
    """Quality of the predictions for whole networks that were held out from the fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_networks: StrictInt
    median_error: float
    """Median of the absolute error over the measured latency."""
    tau: float
    """Kendall's tau-b of predicted and measured latency; 0 if one of them does not vary, never NaN."""
    flops_tau: float
    """Kendall's tau-b of FLOPs and measured latency, for comparison."""

    def describe(self) -> str:
        """Returns e.g. `2.1 % median error, tau 0.95 (FLOPs: 0.69) on 12 networks that were held out`.

        The taus are omitted for fewer than `MIN_FOR_TAU` networks.
        """
        rank = f", tau {self.tau:.2f} (FLOPs: {self.flops_tau:.2f})" if self.num_networks >= MIN_FOR_TAU else ""
        networks = counted(self.num_networks, "network that was", "networks that were")
        return f"{100 * self.median_error:.1f} % median error{rank} on {networks} held out"


class LatencyProfile(BaseModel):
    """The measurements of a space and the coefficients fitted to them. Equal numbers have an equal `digest`."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    setup: Annotated[
        MeasurementSetup, Field(validation_alias=AliasChoices("setup", "setting"), serialization_alias="setting")
    ]
    """Recorded as `setting`, its name in earlier versions: profiles stay readable, and digests stay equal."""
    space_digest: str
    parts: tuple[tuple[Part, float], ...]
    """Every part of the space with its time in microseconds."""
    coefficients: tuple[float, float, float, float]
    """Microseconds per unit of each of `sret_nas.latency.table.FEATURES`."""
    accuracy: FitQuality | None
    """None if the space has too few networks to hold any out."""
    rounds: Annotated[StrictInt, Field(ge=1)]
    """Times that every part and network was timed."""
    seconds: float
    """Duration of all measurements."""

    def describe_accuracy(self) -> str:
        """Returns e.g. `Predictions: 2.1 % median error, ...`."""
        if self.accuracy is None:
            return "Predictions: the space has too few networks to hold any out."
        return f"Predictions: {self.accuracy.describe()}."

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify everything that predictions depend on."""
        content = self.model_dump(mode="json", include={"setup", "space_digest", "parts", "coefficients"})
        return short_digest(json.dumps(content, sort_keys=True))
