"""The figures of how well supernets rank networks."""

from __future__ import annotations

from collections.abc import Callable

from docs.figures.tables import load, table

_TEACHERS = {"resnet10t": "ResNet-10-T", "resnet18": "ResNet-18"}


def ranking_table() -> str:
    ranking = load("ranking")["error"]
    longest = max(row["seconds"] for row in ranking["supernets"])
    trained = {row["variant"]: row for row in ranking["supernets"] if row["seconds"] == longest}
    noise, hindsight = ranking["noise"], ranking["hindsight"]
    flops, params = ranking["costs"]["flops"], ranking["costs"]["params"]
    rows = [
        *(
            (f"inherited error, supernet trained for {longest} s of one core, {drawn}", row["tau"], row["tau_in_bins"])
            for drawn, row in (
                ("draws spread over cost", trained["single"]),
                ("balanced draws (default)", trained["balanced draws"]),
            )
        ),
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


def supernets_in_widths() -> str:
    """Returns how well the longest supernets rank networks whose first stages are equally wide, as two taus."""
    rows = load("ranking")["error"]["supernets"]
    longest = max(row["seconds"] for row in rows)
    taus = {row["variant"]: row["tau_in_widths"] for row in rows if row["seconds"] == longest}
    return f"{taus['single']:.2f} and {taus['balanced draws']:.2f}"


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
    "supernets-in-widths": supernets_in_widths,
    "soft-label-steps": soft_label_steps,
    "soft-label-supernet-steps": soft_label_supernet_steps,
    "soft-label-supernets": soft_label_supernets,
}
"""The parts by the names that markers use."""
