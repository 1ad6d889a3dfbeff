"""Figures and tables from the trainings and supernets on record: means, and differences in pairs of equal seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log2, sqrt
from statistics import fmean, linear_regression, stdev
from typing import Any

from scipy.stats import t

from benchmarks.initialisation.plan import ALL_TORCH_SCALED, PIECES, SUPERNETS, TORCH_SCALED
from benchmarks.initialisation.schemes import OLD, SCHEMES
from benchmarks.recorded import Line

METRICS = {
    "train_loss": ("training loss", 1, 3),
    "val_error": ("validation error, points", 100, 2),
    "val_cross_entropy": ("validation cross-entropy", 1, 3),
    "test_error": ("test error, points", 100, 2),
    "test_cross_entropy": ("test cross-entropy", 1, 3),
}
"""For each, its heading, the factor by which it is shown, and its digits."""

SUPERNET_METRICS = {
    "mean_error": ("mean error of 32 subnets, points", 100, 2),
    "largest_error": ("largest, points", 100, 2),
    "smallest_error": ("smallest, points", 100, 2),
    "tau": ("Kendall tau", 1, 2),
}

MIN_FOR_SLOPE = 6
"""Fewest networks over which a slope is taken."""

NETWORK_METRICS = ("train_loss", "val_error", "val_cross_entropy")

Setting = tuple[str, str, int]
"""Data set, network, training images."""


def figures(
    trainings: Sequence[Line], supernets: Sequence[Line], networks: Sequence[Line] = ()
) -> dict[str, Any]:  # fmt: skip
    """Returns all that is reported, by setting and scheme.

    Args:
        trainings: Of the two networks, on both sets of images.
        supernets: With their tau.
        networks: Trainings of networks of `sret_tiny`, of two lengths.
    """
    settings = list(dict.fromkeys(_setting(line) for line in trainings))
    return {
        "settings": [
            {
                "data": data, "network": network, "images": images,
                "schemes": _schemes([line for line in trainings if _setting(line) == (data, network, images)], METRICS),
            }
            for data, network, images in settings
        ],
        "together": _together(trainings),
        "scaled_less_torch": _between(trainings, TORCH_SCALED, "torch"),
        "supernets": _schemes(supernets, SUPERNET_METRICS),
        "supernet_images": next((line["images"] for line in supernets), None),
        "networks": {
            str(images): _networks([line for line in networks if line["images"] == images])
            for images in sorted({line["images"] for line in networks})
        },
        "planned": {"trainings": len(PIECES), "supernets": len(SUPERNETS)},
        "run": {"trainings": len(trainings), "supernets": len(supernets)},
        "cpu_seconds": round(sum(line["cpu_seconds"] for line in (*trainings, *supernets))),
    }  # fmt: skip


def _together(trainings: Sequence[Line]) -> dict[str, Any]:
    """Returns the differences of every scheme to the old default over the pairs of all settings together."""
    old = {(*_setting(line), line["seed"]): line for line in trainings if line["scheme"] == OLD}
    found = {}
    for scheme in SCHEMES:
        lines = [line for line in trainings if line["scheme"] == scheme != OLD]
        pairs = [(line, old[key]) for line in lines if (key := (*_setting(line), line["seed"])) in old]
        if pairs:
            found[scheme] = {
                metric: paired([line[metric] - other[metric] for line, other in pairs]) for metric in METRICS
            }
    return found


def _between(trainings: Sequence[Line], scheme: str, other: str) -> list[dict[str, Any]]:
    """Returns the differences of two schemes in pairs of equal seed, for each setting and for all together."""
    by_scheme = {
        name: {(*_setting(line), line["seed"]): line for line in trainings if line["scheme"] == name}
        for name in (scheme, other)
    }
    keys = [key for key in by_scheme[scheme] if key in by_scheme[other]]
    settings = list(dict.fromkeys(key[:3] for key in keys))
    groups = [
        (f"{data}, {network}, {images:,} images", [key for key in keys if key[:3] == (data, network, images)])
        for data, network, images in settings
    ]
    return [
        {
            "setting": name,
            **{
                metric: paired([by_scheme[scheme][key][metric] - by_scheme[other][key][metric] for key in group])
                for metric in METRICS
            },
        }
        for name, group in [*groups, ("all pairs together", keys)]
        if group
    ]


def _networks(lines: Sequence[Line]) -> dict[str, Any]:
    """Returns what each scheme gave each network, by FLOPs, and how schemes differ in pairs of equal network."""
    rows: dict[int, dict[str, Any]] = {}
    for line in sorted(lines, key=lambda line: line["flops"]):
        row = rows.setdefault(line["number"], {"number": line["number"], "flops": line["flops"], "schemes": {}})
        row["schemes"][line["scheme"]] = {metric: line[metric] for metric in NETWORK_METRICS}

    def differences(scheme: str, other: str) -> dict[str, Any]:
        both = [row["schemes"] for row in rows.values() if {scheme, other} <= row["schemes"].keys()]
        return {
            metric: paired([one[scheme][metric] - one[other][metric] for one in both]) for metric in NETWORK_METRICS
        }

    return {
        "rows": list(rows.values()),
        "slopes": {scheme: slope for scheme in SCHEMES if (slope := _slope(rows.values(), scheme)) is not None},
        "torch_less_old": differences("torch", OLD),
        "scaled_less_torch": differences(TORCH_SCALED, "torch"),
        "scaled_less_old": differences(TORCH_SCALED, OLD),
        "all_scaled_less_torch": differences(ALL_TORCH_SCALED, "torch"),
        "all_scaled_less_old": differences(ALL_TORCH_SCALED, OLD),
    }


def _slope(rows: Iterable[Mapping[str, Any]], scheme: str) -> float | None:
    """Returns how many points of validation error a doubling of FLOPs adds; None of fewer than `MIN_FOR_SLOPE`."""
    points = [
        (log2(row["flops"]), 100 * row["schemes"][scheme]["val_error"]) for row in rows if scheme in row["schemes"]
    ]
    return linear_regression(*zip(*points, strict=True)).slope if len(points) >= MIN_FOR_SLOPE else None


def _setting(line: Line) -> Setting:
    return line["data"], line["network"], line["images"]


def _schemes(lines: Sequence[Line], metrics: Sequence[str] | dict[str, Any]) -> dict[str, Any]:
    """Returns, for every scheme, its seeds, its means, and its paired differences to the old default."""
    by_scheme = {
        scheme: {line["seed"]: line for line in lines if line["scheme"] == scheme}
        for scheme in SCHEMES
        if any(line["scheme"] == scheme for line in lines)
    }
    old = by_scheme.get(OLD, {})
    return {
        scheme: {
            "seeds": len(of_scheme),
            "means": {metric: fmean(line[metric] for line in of_scheme.values()) for metric in metrics},
            "differences": {
                metric: paired([of_scheme[seed][metric] - old[seed][metric] for seed in of_scheme if seed in old])
                for metric in metrics
                if scheme != OLD
            },
        }
        for scheme, of_scheme in by_scheme.items()
    }


def paired(differences: Sequence[float]) -> dict[str, float | int | None]:
    """Returns the mean of paired differences, half its 95 % t-interval (None of fewer than 2), and how many are < 0."""
    number = len(differences)
    half = None
    if number > 1:
        half = float(t.ppf(0.975, number - 1)) * stdev(differences) / sqrt(number)
    return {
        "pairs": number,
        "mean": fmean(differences) if differences else None,
        "half_interval": half,
        "better": sum(difference < 0 for difference in differences),
    }


def markdown(result: dict[str, Any]) -> str:
    """Returns the report of `figures` as a page."""
    planned, run = result["planned"], result["run"]
    lines = [
        "# Which initialisation suits this family?",
        "",
        f"`python -m benchmarks.initialisation.run`, {result['date']}, {result['cpu']}, one thread, torch "
        f"{result['versions']['torch']}; {result['cpu_seconds']:,} CPU seconds of training in all.",
        "",
        "Each training is that of a trial with its defaults (AdamW, rate 2e-3, batches of 64), at 24 px. All schemes",
        "see the same images in the same order with the same seed. The old default, linear layers 0.02 and",
        "convolutions He, stands with its means. The others stand with their differences to it, in pairs of equal",
        "seed, with 95 % t-intervals. Negative is better, except for tau. Schemes were chosen on the validation part.",
        "The test part had no say.",
        "",
        f"Of {planned['trainings']} planned trainings {run['trainings']} were run, and of {planned['supernets']} "
        f"planned supernets {run['supernets']}. The same command runs the rest.",
        "",
        "## All pairs of all settings together",
        "",
        "In brackets, the number of pairs in which the scheme was better than the old default.",
        "",
        *_together_table(result["together"]),
    ]
    if result["scaled_less_torch"]:
        lines += ["", f"## {TORCH_SCALED} less torch", "", *_between_table(result["scaled_less_torch"])]
    for setting in result["settings"]:
        title = f"{setting['data']}, {setting['network']} network, {setting['images']:,} images"
        lines += ["", f"## {title}", "", *_table(setting["schemes"], METRICS)]
    if result["supernets"]:
        lines += ["", "## Supernets", "", *_table(result["supernets"], SUPERNET_METRICS)]
    for images, found in result["networks"].items():
        title = f"## Networks of `sret_tiny`, CIFAR-10 at 40 px, {int(images):,} images"
        lines += ["", title, "", *_network_table(found)]
    return "\n".join([*lines, ""])


def _together_table(together: dict[str, Any]) -> list[str]:
    rows = [["scheme", "pairs", *(heading for heading, _, _ in METRICS.values())], ["---"] * (2 + len(METRICS))]
    for scheme, differences in together.items():
        cells = [
            f"{difference_text(differences[metric], factor, digits)} ({differences[metric]['better']})"
            for metric, (_, factor, digits) in METRICS.items()
        ]
        rows.append([scheme, str(differences["val_error"]["pairs"]), *cells])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _between_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the differences of two schemes, with the pairs in which the first was better in brackets."""
    heads = ["what was trained", "pairs", *(heading for heading, _, _ in METRICS.values())]
    table = [heads, ["---"] * len(heads)]
    for row in rows:
        cells = [
            f"{difference_text(row[metric], factor, digits)} ({row[metric]['better']})"
            for metric, (_, factor, digits) in METRICS.items()
        ]
        table.append([row["setting"], str(row["train_loss"]["pairs"]), *cells])
    return [f"| {' | '.join(cells)} |" for cells in table]


def _network_table(networks: dict[str, Any]) -> list[str]:
    """Returns validation cross-entropies, a row for each network, and then the differences of schemes."""
    metric = "val_cross_entropy"
    schemes = [one for one in SCHEMES if any(one in row["schemes"] for row in networks["rows"])]
    rows = [f"| number | MFLOPs | {' | '.join(schemes)} |", f"| --- | --- {'| --- ' * len(schemes)}|"]
    for row in networks["rows"]:
        cells = [f"{row['schemes'][one][metric]:.3f}" if one in row["schemes"] else "" for one in schemes]
        rows.append(f"| {row['number']} | {row['flops'] / 1e6:.0f} | {' | '.join(cells)} |")
    texts = {
        "torch_less_old": f"torch - {OLD}",
        "scaled_less_torch": f"{TORCH_SCALED} - torch",
        "scaled_less_old": f"{TORCH_SCALED} - {OLD}",
        "all_scaled_less_torch": f"{ALL_TORCH_SCALED} - torch",
        "all_scaled_less_old": f"{ALL_TORCH_SCALED} - {OLD}",
    }
    rows += ["", "Validation cross-entropy. In pairs of equal network and seed:", ""]
    for key, text in texts.items():
        found = networks[key][metric]
        if found["pairs"]:
            rows.append(f"- {text}: {difference_text(found, 1, 3)}, lower in {found['better']} of {found['pairs']}")
    rows += ["", "Points of validation error that a doubling of FLOPs adds:", ""]
    rows += [f"- {scheme}: {slope:+.2f}" for scheme, slope in networks["slopes"].items()]
    return rows


def _table(schemes: dict[str, Any], metrics: Mapping[str, tuple[str, float, int]]) -> list[str]:
    heads = [heading for heading, _, _ in metrics.values()]
    rows = [["scheme", "seeds", *heads], ["---"] * (2 + len(heads))]
    for scheme, found in schemes.items():
        cells = [_cell(found, metric, factor, digits) for metric, (_, factor, digits) in metrics.items()]
        rows.append([scheme, str(found["seeds"]), *cells])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _cell(found: dict[str, Any], metric: str, factor: float, digits: int) -> str:
    """Returns the mean of the old scheme, and of another its difference with the interval and the pairs it won."""
    if metric not in found["differences"]:
        return f"{factor * found['means'][metric]:.{digits}f}"
    difference = found["differences"][metric]
    if difference["mean"] is None:
        return f"{factor * found['means'][metric]:.{digits}f} (no pair)"
    return difference_text(difference, factor, digits)


def difference_text(difference: dict[str, Any], factor: float, digits: int) -> str:
    """Returns a mean difference and half its interval, where there is one, such as `-1.27 ± 0.30`."""
    half = "" if difference["half_interval"] is None else f" ± {factor * difference['half_interval']:.{digits}f}"
    return f"{factor * difference['mean']:+.{digits}f}{half}"
