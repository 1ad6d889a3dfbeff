"""The figures of how well supernets rank networks."""

from __future__ import annotations

from collections.abc import Callable

from docs.figures.tables import load, table


def ranking_table() -> str:
    ranking = load("ranking")["error"]
    best = max(ranking["supernets"], key=lambda row: row["steps"])
    noise, hindsight = ranking["noise"], ranking["hindsight"]
    flops, params = ranking["costs"]["flops"], ranking["costs"]["params"]
    rows = [
        ("inherited error, supernet trained for 480 s of one core", best["tau"], best["tau_in_bins"]),
        ("FLOPs alone", flops["tau"], flops["tau_in_bins"]),
        ("parameters alone", params["tau"], params["tau_in_bins"]),
        ("width of stage 1 alone, chosen in hindsight", hindsight["tau"], hindsight["tau_in_bins"]),
        ("a perfect prediction", noise["tau_of_the_truth"], noise["tau_of_the_truth_in_bins"]),
    ]  # fmt: skip
    return table(
        ["networks ranked by", "Kendall tau", "tau among networks of similar FLOPs"],
        [(name, f"{tau:.2f}", f"{in_bins:.2f}") for name, tau, in_bins in rows],
    )


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
    "soft-label-supernets": soft_label_supernets,
}
"""The parts by the names that markers use."""
