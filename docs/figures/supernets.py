"""The figures of how well supernets rank networks."""

from __future__ import annotations

from collections.abc import Callable

from docs.figures.tables import load, table

TAUS = ("tau", "tau_in_bins", "tau_in_widths")
"""Over all networks, inside bins of FLOPs, and among those whose first stages are equally wide."""
_TEACHERS = {"resnet10t": "ResNet-10-T", "resnet18": "ResNet-18"}


def ranking_table() -> str:
    """Returns how well the longest supernets, costs and a perfect prediction rank: seeds in the order of their runs."""
    ranking = load("ranking")["error"]
    longest = max(row["seconds"] for row in ranking["supernets"])
    noise, costs = ranking["noise"], ranking["costs"]
    rows = []
    for variant, drawn in (("single", "draws spread over cost"), ("balanced draws", "balanced draws (default)")):
        seeds = [row for row in ranking["supernets"] if (row["variant"], row["seconds"]) == (variant, longest)]
        name = f"inherited error, supernet trained for {longest} s of one core, {drawn}"
        rows.append([name, *(", ".join(f"{row[key]:.2f}" for row in seeds) for key in TAUS)])
    others = {
        "FLOPs alone": costs["flops"],
        "parameters alone": costs["params"],
        "width of stage 1 alone, chosen in hindsight": ranking["hindsight"],
        "a perfect prediction": {key: noise[key.replace("tau", "tau_of_the_truth", 1)] for key in TAUS},
    }
    for name, found in others.items():
        rows.append([name, *("" if found[key] is None else f"{found[key]:.2f}" for key in TAUS)])
    return table(["networks ranked by", "Kendall tau", "among similar FLOPs", "inside a width of stage 1"], rows)


def sampling_table() -> str:
    """Returns how the sampling of subnets ranks networks under a tight budget."""
    within = load("ranking")["within_budget"]
    names = {"single": "stratified", "balanced draws": "balanced (default)"}
    rows = [(names[row["variant"]], f"{row['tau']:.2f}") for row in within["supernets"]]
    rows.append(("FLOPs alone, no supernet", f"{within['costs']['flops']['tau']:.2f}"))
    return table(["`--subnet-sampling`", "Kendall tau"], rows)


def ranking_networks() -> str:
    return str(load("ranking")["networks"])


def supernet_agreement() -> str:
    """Returns how far two supernets, and supernets and trained networks, agree inside widths."""
    rows = load("ranking_scorings")["agreement"]
    perfect = load("ranking")["error"]["noise"]["tau_of_the_truth_in_widths"]

    def span(key: str) -> str:
        values = [row[f"cross_entropy_{key}"] for row in rows]
        return f"{min(values):.2f} to {max(values):.2f}"

    return (
        f"By inherited cross-entropy, two supernets of a variant agree with tau {span('agreement')} "
        f"inside widths ({len(rows)} variants). With the networks' own trainings their mean has {span('truth')}, where "
        f"a perfect prediction would have {perfect:.2f}."
    )


def soft_label_steps() -> str:
    """Returns seconds per step of a training with and without teachers."""
    rows = []
    for case in load("soft_labels")["cases"]:
        steps = case["seconds_per_step"]
        rows.append([
            f"{_TEACHERS[case['teacher']]}, {case['teacher_params'] / 1e6:.1f}M parameters",
            *(f"{steps[kind]:.3f} s" for kind in ("without", "stored", "teacher")),
            f"{case['seconds_to_make_per_batch']:.3f} s",
        ])  # fmt: skip
    return table(["teacher", "without", "stored labels", "with the teacher", "making the labels of a batch"], rows)


def soft_label_supernet_steps() -> str:
    """Returns in a sentence what a supernet's step takes without and with labels and with their teacher."""
    result = load("soft_label_supernets")
    steps, more = result["seconds_per_step"], result["seconds_more_than_without"]
    return (
        f"{steps['without']:.3f} s without labels, {steps['stored']:.3f} s with stored ones, {steps['teacher']:.3f} s "
        f"with the teacher. Making the labels of a batch takes {result['seconds_to_make_per_batch']:.3f} s. "
        f"In pairs of steps, the teacher adds {more['teacher']:+.3f} s and stored labels {more['stored']:+.3f} s."
    )


def soft_label_supernets() -> str:
    """Returns what supernets are worth that learn classes or stored soft labels, seed by seed."""
    rows = load("soft_label_supernets")["summary"]
    return table(
        ["supernet learns", "seed", "images", "mean inherited error", "Kendall tau", "tau at like FLOPs"],
        [
            (
                row["kind"], str(row["seed"]), f"{row['images']:,}", f"{100 * row['error']:.1f} %", f"{row['tau']:.2f}",
                f"{row['tau_in_bins']:.2f}",
            )
            for row in rows
        ],
    )  # fmt: skip


FIGURES: dict[str, Callable[[], str]] = {
    "ranking-table": ranking_table,
    "sampling-table": sampling_table,
    "ranking-networks": ranking_networks,
    "supernet-agreement": supernet_agreement,
    "soft-label-steps": soft_label_steps,
    "soft-label-supernet-steps": soft_label_supernet_steps,
    "soft-label-supernets": soft_label_supernets,
}
"""The parts by the names that markers use."""
