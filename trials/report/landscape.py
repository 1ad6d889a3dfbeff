"""Loss landscapes as values: lines and surfaces of each network and loss, and the numbers of its basin."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.table import Table

from sret_nas.errors import printable
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity

from ..console import Console, escape
from ..engines.results import LandscapeResult
from ..runs.landscape_options import LandscapeOptions
from ..runs.landscape_records import GridPoint, Header, RecordedNetwork
from .basin import BASIN_FACTOR, BasinSummary, deviation, summarise

LossName = Literal["plain", "training"]
Losses = Sequence[float | None]
"""Losses in nats; None where a loss is not finite."""

MAX_NAME = 40
"""Characters of a network's name in tables and pictures; of a longer one, the end is shown."""


@dataclass(frozen=True)
class PairLosses:
    """The losses of one pair of directions."""

    lines: tuple[Losses, Losses]
    """Along the first and the second direction, from the negative to the positive end."""
    surface: Sequence[Losses] | None
    """Rows along the second direction of losses along the first one; None if only the lines were computed."""


@dataclass(frozen=True)
class LossLandscape:
    """One network's landscape of one loss."""

    network: RecordedNetwork
    name: str
    """What distinguishes the network from the others, for tables and pictures."""
    loss: LossName
    centre: float | None
    """The loss of the network itself."""
    centre_weight_decay: float | None
    """Weight decay of the network itself, which is a part of the training's loss; None for the plain loss."""
    pairs: tuple[PairLosses, ...]
    basin: BasinSummary | None


@dataclass(frozen=True)
class Landscapes:
    """All landscapes of one call, in the order of the losses and then of the networks."""

    header: Header
    options: LandscapeOptions
    landscapes: tuple[LossLandscape, ...]
    devices: tuple[str, ...]

    @property
    def losses(self) -> tuple[LossName, ...]:
        """The losses that were computed."""
        return tuple(dict.fromkeys(landscape.loss for landscape in self.landscapes))

    def of(self, loss: LossName) -> tuple[LossLandscape, ...]:
        """Returns the landscapes of one loss, a network each."""
        return tuple(landscape for landscape in self.landscapes if landscape.loss == loss)

    @property
    def coordinates(self) -> list[float]:
        """The positions of the points of a line, in lengths of its direction."""
        half = self.options.half
        return [index * self.options.span / half for index in range(-half, half + 1)]


def short_names(names: Sequence[str]) -> list[str]:
    """Returns what is shown of paths: without the folders that they have in common, and of a single one the end."""
    parts = [Path(name).parts for name in names]
    shared = max(0, len(parts[0]) - 2)
    if len(parts) > 1:
        columns = zip(*(one[:-1] for one in parts), strict=False)
        shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return [_shortened(str(Path(*one[shared:]))) for one in parts]


def _shortened(name: str) -> str:
    shown = printable(name, 10 * len(name))
    return shown if len(shown) <= MAX_NAME else "…" + shown[1 - MAX_NAME :]


def training_loss(result: LandscapeResult) -> float | None:
    """Returns the cross-entropy on augmented images plus the weight decay; None if one of them is not known."""
    if result.augmented_cross_entropy is None or result.weight_decay is None:
        return None
    return result.augmented_cross_entropy + result.weight_decay


LOSSES: dict[LossName, Callable[[LandscapeResult], float | None]] = {
    "plain": lambda result: result.cross_entropy,
    "training": training_loss,
}


def landscapes_of(header: Header, options: LandscapeOptions, points: Mapping[GridPoint, LandscapeResult]) -> Landscapes:
    """Returns the landscapes of a record that is complete."""
    names = short_names([network.name for network in header.networks])
    found = []
    for loss, value in LOSSES.items():
        if options.loss not in (loss, "both"):
            continue
        values = {point: value(result) for point, result in points.items()}
        for index, network in enumerate(header.networks):
            if loss == "plain" or network.weight_decay is not None:
                decay = points[GridPoint(index, 0, 0, 0)].weight_decay if loss == "training" else None
                pairs = _pairs(index, options, values)
                basin = summarise([pair.lines for pair in pairs], options.step)
                centre = values[GridPoint(index, 0, 0, 0)]
                found.append(LossLandscape(network, names[index], loss, centre, decay, pairs, basin))
    devices = tuple(sorted({result.device for result in points.values()}))
    return Landscapes(header, options, tuple(found), devices)


def _pairs(network: int, options: LandscapeOptions, values: Mapping[GridPoint, float | None]) -> tuple[PairLosses, ...]:
    indices = range(-options.half, options.half + 1)
    pairs = []
    for pair in range(options.pairs):
        first = [values[GridPoint.of(network, pair, i, 0)] for i in indices]
        second = [values[GridPoint.of(network, pair, 0, j)] for j in indices]
        surface = None
        if pair < options.surfaces:
            surface = [[values[GridPoint.of(network, pair, i, j)] for i in indices] for j in indices]
        pairs.append(PairLosses((first, second), surface))
    return tuple(pairs)


def caption(landscapes: Landscapes) -> str:
    """Returns what has to be known to read the pictures, as sentences."""
    options = landscapes.options
    statistics = "are found anew at every point" if options.stem_statistics == "renewed" else "are kept"
    counts = landscapes.header.networks[0].num_images
    lines = [
        "Directions are random and filter-normalised (Li et al., 2018): each slice along dimension 0 of a tensor with "
        "two dimensions or more has the norm of the weights. Biases, norms and one-dimensional residual coefficients "
        "stay still. A shared block has one direction, however often it is applied. Permutations are fixed, and the "
        f"stem's statistics {statistics}.",
    ]
    if "plain" in landscapes.losses:
        lines.append(f"plain: cross-entropy on {counted(counts.get('plain', 0), f'{options.part} image')}.")
    if "training" in landscapes.losses:
        lines.append(
            f"training: cross-entropy on {max(n.num_images.get('augmented', 0) for n in landscapes.header.networks):,} "
            "augmented training images, the same at every point, plus weight decay (factor / 2 x squared norm)."
        )
    lines.append(f"Seed {options.seed}.")
    return " ".join(lines)


def to_json(landscapes: Landscapes) -> str:
    """Returns every value as JSON; losses in nats, null where a loss is not finite."""
    header = landscapes.header
    data: dict[str, Any] = {
        "format": 1,
        "caption": caption(landscapes),
        "options": header.options,
        "data": header.data,
        "versions": header.versions,
        "devices": landscapes.devices,
        "coordinates": landscapes.coordinates,
        "basin_factor": BASIN_FACTOR,
        "networks": [network.model_dump(mode="json") for network in header.networks],
        "landscapes": [
            {
                "network": landscape.network.name,
                "loss": landscape.loss,
                "centre": landscape.centre,
                "centre_weight_decay": landscape.centre_weight_decay,
                "basin": None if landscape.basin is None else landscape.basin.to_dict(),
                "pairs": [
                    {"first": pair.lines[0], "second": pair.lines[1], "surface": pair.surface}
                    for pair in landscape.pairs
                ],
            }
            for landscape in landscapes.landscapes
        ],
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def with_deviation(mean: float, values: Sequence[float]) -> str:
    """Returns a mean and its standard deviation between pairs of directions, such as `0.71 ± 0.05`."""
    spread = deviation(values)
    return f"{mean:.3g}" if spread is None else f"{mean:.3g} ± {spread:.2g}"


def describe_width(basin: BasinSummary) -> str:
    """Returns the width of a basin with its variation; `≥` where the loss does not double on some side."""
    # Where it doubles nowhere, all widths are that of the line, which is no agreement between pairs.
    widths = basin.widths[:1] if basin.is_wider and len(set(basin.widths)) == 1 else basin.widths
    return ("≥ " if basin.is_wider else "") + with_deviation(basin.mean_width, widths)


def describe_sharpness(basin: BasinSummary) -> str:
    """Returns the sharpness of a basin with its variation; `-` if it is not known."""
    mean = basin.mean_sharpness
    return "-" if mean is None else with_deviation(mean, basin.sharpness)


def show_landscapes(landscapes: Landscapes, console: Console) -> None:
    """Prints a table with the numbers of every landscape."""
    pairs = landscapes.options.pairs
    what = f"Mean ± deviation between {pairs} pairs of directions" if pairs > 1 else "One pair of directions"
    table = Table(
        title=f"{what}; width where the loss is {BASIN_FACTOR:g} times the network's, in lengths of a direction",
        title_justify="left", title_style="italic", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("network", overflow="fold")
    table.add_column("loss")
    for column in ("nats", "width", "sharp-\nness"):
        table.add_column(column, justify="right")
    for landscape in landscapes.landscapes:
        basin = landscape.basin
        table.add_row(
            escape(landscape.name),
            landscape.loss,
            "-" if landscape.centre is None else f"{landscape.centre:.4g}",
            "-" if basin is None else describe_width(basin),
            "-" if basin is None else describe_sharpness(basin),
        )
    console.print(table)


def describe_network(network: RecordedNetwork) -> str:
    """Returns a line that says what a network is."""
    depth = ",".join(map(str, network.recursions))
    return f"{_shortened(network.name)}: {network.arch_id}, {format_quantity(network.flops)} FLOPs, recursions {depth}"
