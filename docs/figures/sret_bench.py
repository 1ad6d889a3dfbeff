"""The figures of SReT-Bench in docs/results.md and docs/sret-bench.md. What has not been run says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docs.figures.tables import load, table

NOT_YET = "not yet run"
SETS = {"tau": "all", "tau_at_like_cost": "at like cost", "tau_in_window": "0.9 to 1 G"}


def shown(found: dict[str, Any] | None, scale: float = 1, digits: int = 2) -> str:
    """Returns a figure with its interval, e.g. `0.66 (0.60 to 0.71)`."""
    if found is None or found.get("value") is None:
        return NOT_YET
    value, (low, high) = scale * found["value"], (scale * bound for bound in found["interval"])
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def progress_table() -> str:
    rows = [(name, f"{done:,}", f"{number:,}") for name, (done, number) in load("sret_bench")["progress"].items()]
    return table(["part", "there", "planned"], rows)


def additivity_table() -> str:
    """Returns R2 and taus of the models on networks they have not seen, for each supernet."""
    rows: list[tuple[str, ...]] = []
    for seed, found in load("sret_bench")["additivity"].items():
        if found is None:
            rows.append((seed, "", "", NOT_YET, "", "", ""))
            continue
        for model, each in found["models"].items():
            taus = (shown(each.get(name)) for name in SETS)
            rows.append((seed, f"{found['n']:,}", model, shown(each["r2"]), *taus))
    return table(["supernet", "networks", "model", "R²", *(f"tau, {name}" for name in SETS.values())], rows)


def additivity_summary() -> str:
    """Returns in a sentence how well the fullest model, and FLOPs alone, predict networks they have not seen.

    It is said of the first supernet that has scored the most networks.
    """
    scored = [found for found in load("sret_bench")["additivity"].values() if found is not None]
    if not scored:
        return f"inherited weights: {NOT_YET}"
    found = max(scored, key=lambda each: int(each["n"]))
    best, flops = found["models"]["with pairs"], found["models"]["FLOPs"]
    return (
        f"Of the inherited errors of {found['n']:,} networks, a model with sums and pairs explains "
        f"{best['r2']['value']:.0%} of the variance of networks that it has not seen, and FLOPs alone "
        f"{flops['r2']['value']:.0%}. At like cost its tau is {shown(best['tau_at_like_cost'])}, and that of FLOPs "
        f"{shown(flops['tau_at_like_cost'])}."
    )


def effects_table() -> str:
    """Returns what one more recursion changes, and what predictions lose without each kind of choice."""
    by_supernet = {seed: found for seed, found in load("sret_bench")["effects"].items() if found is not None}
    if not by_supernet:
        return table(["choice", "effect"], [("all", NOT_YET)])
    header = ["choice", *(f"supernet {seed}, {found['n']:,} networks" for seed, found in by_supernet.items())]
    first = next(iter(by_supernet.values()))
    rows: list[tuple[str, ...]] = [
        (f"recursions, {name}", *(f"{shown(found['recursions'][name], 100)} points" for found in by_supernet.values()))
        for name in first["recursions"]
    ]
    rows += [
        (f"without {kind}", *(f"{shown(found['lost_without'][kind])} of R²" for found in by_supernet.values()))
        for kind in first["lost_without"]
    ]
    return table(header, rows)


def agreement_table() -> str:
    """Returns how two supernets agree, and how long training agrees with the inherited model."""
    everything = load("sret_bench")
    rows: list[tuple[str, ...]] = []
    between = everything["between_supernets"]
    for name, title in SETS.items():
        number = "" if between is None else f"{between[name]['n']:,}"
        rows.append((f"two supernets: tau, {title}", number, shown(None if between is None else between[name])))
    found = everything["structures"]
    number = "" if found is None else f"{found['n']}"
    for name, title in (("tau", "all"), ("tau_at_equal_cost", "at equal cost")):
        rows.append(
            (
                f"model of supernet 0, which chose them, and long training: tau, {title}",
                number,
                shown(None if found is None else found[name]),
            )
        )
    for seed, each in (everything["unseen_models"] or {}).items():
        for name, title in (("tau", "all"), ("tau_at_equal_cost", "at equal cost")):
            what = f"model of supernet {seed}, which did not choose them, and long training: tau, {title}"
            rows.append((what, number, shown(each[name])))
    for name in ("worst less best", "middling less best"):
        gap = None if found is None else found.get(name)
        count = "" if gap is None else f"{gap['n']} pairs, better in {gap['better']}"
        text = NOT_YET if gap is None else f"{shown(gap, 100)} points"
        rows.append((f"long training at equal cost: error of the {name}", count, text))
    return table(["compared", "networks", "found"], rows)


def lengths_table() -> str:
    """Returns how each length ranks networks, against the end of the long trainings."""
    found = load("sret_bench")["lengths"]
    header = ["images", "schedule", "trainings", "tau, all", "tau, at equal cost", "points per doubling of FLOPs"]
    if found is None:
        return table(header, [("all lengths", "", "", NOT_YET, "", "")])
    rows = []
    for kind, title in (("on_the_way", f"of {found['images']:,}"), ("own_schedule", "its own")):
        for images, each in found[kind].items():
            figures = (shown(each.get(name)) for name in ("tau", "tau_at_equal_cost", "slope"))
            rows.append((f"{int(images):,}", title, f"{each['n']}", *figures))
    return table(header, rows)


def noise_of_a_training() -> str:
    """Returns the standard deviation of one long training's validation error, from second seeds."""
    found = (load("sret_bench")["lengths"] or {}).get("second_seeds")
    if found is None:
        return f"second seeds: {NOT_YET}"
    return f"{100 * found['noise_sd']:.1f} points (standard deviation, {found['n']} networks trained twice)"


def equal_seconds_table() -> str:
    """Returns supernet and proxies at equal CPU seconds."""
    found = load("sret_bench")["equal_seconds"]
    header = ["trials", "CPU seconds", "ranked by", "tau, all", "tau, at equal cost"]
    if found is None:
        return table(header, [("all", "", "", NOT_YET, "")])
    rows = []
    names = "tau", "tau_at_equal_cost"
    for trials, each in found["trials"].items():
        supernet = each.get("supernet")
        shares = (shown(None if supernet is None else supernet[name]) for name in names)
        rows.append((f"{int(trials):,}", f"{each['cpu_seconds']:,}", "supernet and model", *shares))
        for kind, schedule in (("own_schedule", "its own schedule"), ("on_the_way", "the schedule of the long ones")):
            if (proxy := each.get(kind)) is not None:
                title = f"from scratch, {proxy['length']:,} images, {schedule}"
                rows.append(("", "", title, *(shown(proxy.get(name)) for name in names)))
        if not each.keys() & {"own_schedule", "on_the_way"}:
            rows.append(("", "", f"from scratch, {each['images_per_proxy']:,} images: fewer than any length", "", ""))
    return table(header, rows)


def precision_table() -> str:
    """Returns tau between short supernets in both precisions."""
    found = load("sret_bench")["precision"] or {}
    names = "scored in fp32", "trained and scored in fp32", "another seed"
    rows = [(name, "" if not found.get(name) else f"{found[name]['n']}", shown(found.get(name))) for name in names]
    return table(["against bf16", "networks", "tau"], rows)


FIGURES: dict[str, Callable[[], str]] = {
    "sret-bench-additivity": additivity_table,
    "sret-bench-summary": additivity_summary,
    "sret-bench-agreement": agreement_table,
    "sret-bench-effects": effects_table,
    "sret-bench-equal-seconds": equal_seconds_table,
    "sret-bench-lengths": lengths_table,
    "sret-bench-noise": noise_of_a_training,
    "sret-bench-precision": precision_table,
    "sret-bench-progress": progress_table,
}
"""The parts by the names that markers use."""
