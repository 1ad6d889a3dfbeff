"""Latency: how it is written (`20ms`), what is timed to predict it, and what was found, as data.

A forward pass is a row of a few kinds of parts (stem, attention, MLP, pooling, head), and a search space has a few
hundred different ones. Each is timed alone, once, and so are some whole networks, which show by what the sum of its
parts misses a network. `sret_nas.latency.table` makes predictions of both. Latencies are whole microseconds.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from sret_nas.files import short_digest

MIN_FOR_TAU = 5
"""Networks below which a rank correlation is not shown: of four in order, chance alone brings about one in 24."""

PartKind = Literal["stem", "attention", "mlp", "pool", "head"]


class Part(NamedTuple):
    """A piece of a forward pass that is timed alone.

    `side` is that of the square of pixels (stem) or tokens that it sees. `sizes` are, for the stem, the channels of the
    image, the stem's width, the first stage's width and the strides; for attention (with its LayerNorm and residual)
    width, heads, groups and whether the tokens are permuted; for an MLP or NLL (likewise) width and hidden width; for
    pooling the widths before and after; for the head width and classes.
    """

    kind: PartKind
    side: int
    sizes: tuple[int, ...]


class MeasurementSetup(BaseModel):
    """Where and how latency is measured: always of one forward pass in evaluation mode, in float32."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    """`cpu` and the processor's name, or the GPU's name."""
    threads: StrictInt
    """CPU threads of torch."""
    batch_size: StrictInt
    torch: str
    """torch's version."""
    image_size: StrictInt

    def describe(self) -> str:
        """E.g. `batch 1 of 224 px, cpu (AMD EPYC), 1 thread, torch 2.15.0`."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"batch {self.batch_size} of {self.image_size} px, {self.device}, {threads}, torch {self.torch}"


class FitQuality(BaseModel):
    """How well latencies of whole networks are predicted that the fit has not seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_networks: StrictInt
    median_error: float
    """Median of the absolute error over the measured latency."""
    tau: float
    """Kendall's tau-b of predicted and measured latency; NaN never, 0 where all are equal."""
    flops_tau: float
    """That of FLOPs and measured latency, for comparison."""

    def describe(self) -> str:
        """E.g. `2.1 % median error, tau 0.95 (FLOPs: 0.69) on 12 networks that were held out`; no tau of very few."""
        rank = f", tau {self.tau:.2f} (FLOPs: {self.flops_tau:.2f})" if self.num_networks >= MIN_FOR_TAU else ""
        networks = "1 network that was" if self.num_networks == 1 else f"{self.num_networks} networks that were"
        return f"{100 * self.median_error:.1f} % median error{rank} on {networks} held out"


class LatencyProfile(BaseModel):
    """What was timed in a space, and what was fitted to it. Equal numbers have an equal `digest`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: MeasurementSetup
    space_digest: str
    parts: tuple[tuple[Part, float], ...]
    """Every part of the space with its time in microseconds."""
    coefficients: tuple[float, float, float, float]
    """Microseconds per unit of each of `latency_table.FEATURES`."""
    accuracy: FitQuality | None
    """None where a space has too few networks to hold any out."""
    rounds: Annotated[StrictInt, Field(ge=1)]
    seconds: float
    """What measuring took."""

    def describe_accuracy(self) -> str:
        """E.g. `Predictions: 2.1 % median error, ...`."""
        if self.accuracy is None:
            return "Predictions: the space has too few networks to hold any out."
        return f"Predictions: {self.accuracy.describe()}."

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of all numbers that predictions come from."""
        content = self.model_dump(mode="json", include={"setting", "space_digest", "parts", "coefficients"})
        return short_digest(json.dumps(content, sort_keys=True))
