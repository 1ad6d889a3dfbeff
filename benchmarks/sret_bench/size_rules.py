"""Which size should be chosen? Rules that know only short trainings are judged by long ones, on three sets of images.

    python -m benchmarks.sret_bench.size_rules

Reads the published tables of trainings and writes results/sret_bench_sizes.json. On each set of images, eight networks
of one structure from 80 M to 1.4 G FLOPs were trained short, on schedules of their own, and long. For a budget that the
cheapest two to all eight of them keep, a rule chooses one. Its regret is the error of this one after long training,
less the least of all within the budget. A rule that has a prior takes it from the other sets of images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.ranking.metrics import FloatArray, interval, resamples
from benchmarks.recorded import RESULTS
from benchmarks.sret_bench.chosen import STRUCTURES
from benchmarks.sret_bench.figures import Figures, scratch_rows
from benchmarks.sret_bench.load import load
from benchmarks.sret_bench.tables import Line
from sret_nas.files import write_atomically

TABLES = {
    "CIFAR-10": "sret_bench_scratch.jsonl.gz",
    "Fashion-MNIST": "sret_bench_fashion_mnist.jsonl.gz",
    "digits": "sret_bench_digits.jsonl.gz",
}
IMAGENET = {"SReT-T": (1.1217e9, 0.240), "SReT-S": (4.1910e9, 0.181)}
"""FLOPs and top-1 errors that Shen, Liu and Xing (ECCV 2022) published: a fourth set of images, with two networks."""
MIN_SIZES = 4
"""Least number of costs for which a structure is judged."""
MIN_HELD_OUT = 1_000
"""Least number of held-out images for a slope that counts in a prior: of the digits' 718, some five are errors."""


@dataclass(frozen=True)
class Sizes:
    """Networks of one structure and rising cost on one set of images, and their errors (0 to 1)."""

    images: str
    structure: str
    flops: FloatArray
    short: dict[int, FloatArray]
    """By length of the schedule: validation errors at its end."""
    validation: FloatArray
    """After the long training."""
    held_out: FloatArray
    """After the long training, over all validation and test images."""
    length: int
    """Images of the long training."""
    num_held_out: int

    @property
    def doublings(self) -> FloatArray:
        logs: FloatArray = np.log2(self.flops)
        return logs


def sizes_of(images: str, structure: str, lines: Sequence[Line], num_val: int, num_test: int) -> Sizes | None:
    """Returns what a table holds of a structure, at the costs where all trainings have ended."""
    schedules = sorted({line["schedule_images"] for line in lines})
    rows = {length: scratch_rows(lines, None, length) for length in schedules}
    costs = [
        cost
        for cost in sorted({line["cost"] for line in lines})
        if all((cost, structure) in rows[n] for n in schedules)
    ]
    if len(costs) < MIN_SIZES:
        return None
    *short, longest = schedules
    ends = [rows[longest][cost, structure] for cost in costs]

    def errors(length: int) -> FloatArray:
        return np.array([rows[length][cost, structure]["error"] for cost in costs])

    held_out = [(num_val * end["error"] + num_test * end["test_error"]) / (num_val + num_test) for end in ends]
    return Sizes(
        images, structure, np.array([float(end["flops"]) for end in ends]), {n: errors(n) for n in short},
        errors(longest), np.array(held_out), longest, num_val + num_test,
    )  # fmt: skip


def relative_slope(flops: FloatArray, errors: FloatArray) -> float:
    """Returns by which share of itself the error changes with a doubling of FLOPs, as a difference of logarithms."""
    return float(np.polyfit(np.log2(flops), np.log(errors), 1)[0])


def slope_with_interval(flops: FloatArray, errors: FloatArray) -> Figures:
    """Returns `relative_slope` with its 95 % interval of a bootstrap over networks, in percent per doubling."""
    samples = []
    for counts in resamples(len(flops)):
        if (counts > 0).sum() > 1:
            samples.append(float(np.polyfit(np.log2(flops), np.log(errors), 1, w=np.sqrt(counts))[0]))
    low, high = interval(np.array(samples))
    value = relative_slope(flops, errors)
    return {"percent": _percent(value), "interval": [_percent(low), _percent(high)], "n": len(flops)}


def _percent(logarithm: float) -> float:
    return round(100 * float(np.expm1(logarithm)), 1)


# Rules: each returns for the networks within a budget what it expects of their errors, up to a constant


Rule = Callable[[Sizes, int, float], FloatArray]
"""Expects of the cheapest `number` networks; the last argument is the prior slope, from other images."""


def by_proxy(position: int) -> Rule:
    """Returns the rule that believes the short trainings of a length: 0 for the shortest."""
    return lambda sizes, number, prior: sizes.short[sorted(sizes.short)[position]][:number]


def by_proxy_fit(sizes: Sizes, number: int, prior: float) -> FloatArray:
    """Believes the straight line through the longer proxies' errors over the logarithm of FLOPs."""
    errors = sizes.short[max(sizes.short)][:number]
    return _line(sizes, number, float(np.polyfit(sizes.doublings[:number], errors, 1)[0]))


def by_learning_curves(sizes: Sizes, number: int, prior: float) -> FloatArray:
    """Extends the power law through each network's two short trainings to the length of the long one."""
    shorter, longer = sorted(sizes.short)
    first, second = (sizes.short[length][:number] for length in (shorter, longer))
    steps = np.log(sizes.length / longer) / np.log(longer / shorter)
    extended: FloatArray = second * (second / first) ** steps
    return extended


def by_slope_curve(sizes: Sizes, number: int, prior: float) -> FloatArray:
    """Extends how the slope over FLOPs changes from the shorter to the longer proxies, in relative errors."""
    shorter, longer = sorted(sizes.short)
    first, second = (relative_slope(sizes.flops[:number], sizes.short[n][:number]) for n in (shorter, longer))
    steps = np.log(sizes.length / longer) / np.log(longer / shorter)
    return _line(sizes, number, second + (second - first) * steps)


def by_prior(sizes: Sizes, number: int, prior: float) -> FloatArray:
    """Believes the slope of long trainings on other images, and no proxy."""
    return _line(sizes, number, prior)


def by_prior_and_proxies(sizes: Sizes, number: int, prior: float) -> FloatArray:
    """Believes the mean of the prior slope and that of the longer proxies."""
    observed = relative_slope(sizes.flops[:number], sizes.short[max(sizes.short)][:number])
    return _line(sizes, number, (prior + observed) / 2)


def _line(sizes: Sizes, number: int, slope: float) -> FloatArray:
    line: FloatArray = slope * sizes.doublings[:number]
    return line


RULES: dict[str, Rule] = {
    "least error of the shorter proxies": by_proxy(0),
    "least error of the longer proxies": by_proxy(1),
    "line through the longer proxies": by_proxy_fit,
    "learning curves from two lengths": by_learning_curves,
    "slope extended from two lengths": by_slope_curve,
    "prior slope alone (the largest)": by_prior,
    "prior slope and longer proxies": by_prior_and_proxies,
}


def regrets(sizes: Sizes, prior: float) -> dict[str, list[float]]:
    """Returns each rule's regret in points, for budgets that the cheapest two to all networks keep."""
    found: dict[str, list[float]] = {}
    for name, rule in RULES.items():
        for number in range(2, len(sizes.flops) + 1):
            chosen = int(np.argmin(rule(sizes, number, prior)))
            ends = sizes.held_out[:number]
            found.setdefault(name, []).append(100 * float(ends[chosen] - ends.min()))
    return found


def all_sizes(results: Path = RESULTS) -> list[Sizes]:
    """Returns every structure of every published table that has enough of it."""
    found = []
    for images, name in TABLES.items():
        if not (results / name).exists():
            continue
        header, lines = load(results / name)
        num_val, num_test = (_count(header["data"], part) for part in ("validation", "test"))
        for structure in STRUCTURES:
            sizes = sizes_of(images, structure, lines, num_val, num_test)
            if sizes is not None:
                found.append(sizes)
    return found


def _count(summary: str, part: str) -> int:
    """Returns the images of a part, from the summary in a table's header."""
    (row,) = (line.split() for line in summary.splitlines() if line.split()[0] == part)
    return int(row[1].replace(",", ""))


def report(found: Sequence[Sizes]) -> Figures:
    """Returns slopes and regrets. The prior of a set of images is the mean slope of the others' best structures."""
    told = dict.fromkeys(sizes.images for sizes in found if sizes.num_held_out >= MIN_HELD_OUT)
    slopes = {images: _long_slope(found, images) for images in told}
    (small, large) = IMAGENET.values()
    slopes["ImageNet"] = float(np.log(large[1] / small[1]) / np.log2(large[0] / small[0]))
    table: list[dict[str, Any]] = []
    for sizes in found:
        prior = float(np.mean([slope for images, slope in slopes.items() if images != sizes.images]))
        by_rule = regrets(sizes, prior)
        table.append({
            "images": sizes.images,
            "structure": sizes.structure,
            "long": sizes.length,
            "prior": _percent(prior),
            "slopes": {
                **{str(n): slope_with_interval(sizes.flops, errors) for n, errors in sorted(sizes.short.items())},
                str(sizes.length): slope_with_interval(sizes.flops, sizes.held_out),
            },
            "held_out": sizes.num_held_out,
            "errors": [round(float(error), 5) for error in sizes.held_out],
            "flops": [int(flops) for flops in sizes.flops],
            "regret": {
                rule: {"mean": round(float(np.mean(points)), 2), "most": round(max(points), 2)}
                for rule, points in by_rule.items()
            },
        })  # fmt: skip
    return {"slopes": {images: _percent(slope) for images, slope in slopes.items()}, "sizes": table}


def _long_slope(found: Sequence[Sizes], images: str) -> float:
    """Returns the slope of the best structure, as that is what a search recommends; of the first there is if not."""
    of_images = [each for each in found if each.images == images]
    best = next((each for each in of_images if each.structure == "best"), of_images[0])
    return relative_slope(best.flops, best.held_out)


def main() -> None:
    content = {**describe_machine("numpy"), **report(all_sizes())}
    write_atomically(RESULTS / "sret_bench_sizes.json", json.dumps(content, indent=1) + "\n")
    for row in content["sizes"]:
        print(row["images"], row["structure"], {n: slope["percent"] for n, slope in row["slopes"].items()})
        for rule, regret in row["regret"].items():
            print(f"   {rule}: {regret['mean']:.2f} points, at most {regret['most']:.2f}")


if __name__ == "__main__":
    main()
