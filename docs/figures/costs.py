"""The figures of cost, counts and draws, and of latency."""

from __future__ import annotations

from collections.abc import Callable

from docs.figures.tables import load, script, table


def plain_fvcore_range() -> str:
    """Returns what fvcore alone misses, over all published networks: `8 to 56 %`."""
    shares = [1 - row["plain_fvcore"] / row["closed_form"] for row in load("plain_fvcore")["networks"]]
    return f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %"


def plain_fvcore_table() -> str:
    rows = [
        (
            f"`{row['network']}`",
            f"{row['closed_form']:,}",
            f"{row['count_flops']:,}",
            f"{row['plain_fvcore']:,}",
            f"{100 * (1 - row['plain_fvcore'] / row['closed_form']):.1f} %",
        )
        for row in load("plain_fvcore")["networks"]
    ]
    return table(["network", "closed form", "`count_flops`", "plain fvcore", "missing"], rows)


def cost_table() -> str:
    cost = load("cost")
    cases = {case["budget"]: case for case in load("feasible")["cases"]}
    whole, narrow = cases["at most 1 G FLOPs"], cases["SReT-T +-2 %"]
    tiny = load("exact_front")["spaces"][0]
    window = next(window for window in tiny["windows"] if window["window"] == "unbounded")
    gap = next(case["hypervolume_gap_percent"] for case in window["bucketed"] if case["width"] == 0.01)
    rows = [
        ("Cost of SReT-T, by an fvcore trace", f"{cost['fvcore_trace_s']:.2f} s", script("cost.py")),
        ("The same by the closed form", f"{1e6 * cost['closed_form_s']:.0f} µs", ""),
        (f"{cost['bulk'][-1]['architectures']:,} networks at once", f"{cost['bulk'][-1]['seconds']:.2f} s", ""),
        ("Networks of `sret_tiny`", f"{whole['networks']:,}", script("feasible.py")),
        ("Of these, at most 1 GFLOPs", f"{whole['inside']:,}", ""),
        ("Time to count them", f"{whole['count_seconds']:.1f} s", ""),
        ("Time of a million uniform draws from them", f"{whole['million_choices_seconds']:.1f} s", ""),
        ("Networks within 2 % of SReT-T in FLOPs and parameters", f"{narrow['inside']:,}", ""),
        ("Plain draws per hit in that window", f"{1 / narrow['share']:,.0f}", ""),
        ("Time of one uniform draw from that window", f"{narrow['draw_ms']:.1f} ms", ""),
        ("Proven front of an additive score", f"{window['front_seconds']:.1f} s", script("exact_front.py")),
        ("Tables for it, built once", f"{tiny['halves_seconds']:.1f} s", ""),
        ("Hypervolume that buckets of 1 % of cost miss", f"{gap:.2f} %", ""),
    ]  # fmt: skip
    return table(["what", "measured", "script"], rows)


def latency_table() -> str:
    latency = load("latency")
    rows = [
        (
            held["networks"],
            str(held["num_networks"]),
            f"{100 * held['median_error']:.1f} %",
            f"{held['tau']:.2f}",
            f"{held['flops_tau']:.2f}",
        )
        for held in latency["held_out"]
    ]
    return table(["networks of `sret_tiny`", "held out", "median error", "Kendall tau", "tau of FLOPs alone"], rows)


FIGURES: dict[str, Callable[[], str]] = {
    "plain-fvcore-range": plain_fvcore_range,
    "plain-fvcore-table": plain_fvcore_table,
    "cost-table": cost_table,
    "latency-table": latency_table,
}
"""The parts by the names that markers use."""
