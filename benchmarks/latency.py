"""How well latency is predicted: profiles of `sret_tiny` against whole networks that no fit has seen.

Run `python -m benchmarks.latency` from the repository's root; it prints a table and writes
`benchmarks/results/latency.json`. One CPU thread, batch 1, 224 px. Each timing is the least of several that are spread
over the rounds, because what else runs on the machine only ever adds time; the result says how busy it was, and with
what priority this ran (`nice -n -15` needs root). With `--shared DIR`, the folder of public tables beside the checkout,
the same kind of model (one that adds over stages) is fitted to other people's measurements: 2,000 transformers on a
Xeon and on a Titan Xp (mit-han-lab/hardware-aware-transformers, MIT licence).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from benchmarks.machine import describe_machine
from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.files import write_atomically
from sret_nas.latency.fit import quality_of
from sret_nas.latency.profile import LatencyProfile
from sret_nas.latency.table import LatencyTable
from sret_nas.space.search_space import SearchSpace
from trials.engines.inline import InlineEngine
from trials.runs.options import SearchOptions
from trials.search.latency_profile import LatencyTimer, measure_profile, measured_latencies
from trials.worker.entry import JobRunner

RESULT = Path(__file__).parent / "results" / "latency.json"
SPACE = "sret_tiny"
SEED = 1
"""Of the networks that are predicted; the profile draws its own with seed 0."""
NUM_NETWORKS = 48
NUM_PROFILED = 150
"""Networks of the public tables that the additive fit sees; the other 1,850 are held out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, metavar="DIR", help="folder that holds hat/*.csv")
    shared: Path | None = parser.parse_args().shared
    console = Console()
    space, options = SearchSpace.load(SPACE), SearchOptions.parse({"device": "cpu", "threads": 1}, "search")
    with InlineEngine(JobRunner()) as engine:
        timer = LatencyTimer(engine, options)
        profile = measure_profile(timer, space, timer.setup(space), console)
        cases = [
            _case(name, timer, profile, space, budget)
            for name, budget in (("the whole space", Budget()), ("at most 1 G FLOPs", Budget(flops_max=10**9)))
        ]
    result = {
        "space": SPACE,
        "seed": SEED,
        "setting": profile.setup.model_dump(mode="json"),
        "profile": {
            "parts": len(profile.parts),
            "rounds": profile.rounds,
            "seconds": profile.seconds,
            "coefficients": profile.coefficients,
            "accuracy": None if profile.accuracy is None else profile.accuracy.model_dump(mode="json"),
        },
        "held_out": cases,
        "public_tables": [] if shared is None else [_public_case(path) for path in sorted(shared.glob("hat/*.csv"))],
        "load_average": os.getloadavg(),
        "niceness": os.nice(0),
        **describe_machine("numpy", "scipy", "torch"),
    }
    write_atomically(RESULT, json.dumps(result, indent=2) + "\n")
    _show(result, console)


def _case(
    name: str, timer: LatencyTimer, profile: LatencyProfile, space: SearchSpace, budget: Budget
) -> dict[str, Any]:  # fmt: skip
    """Compares predictions with measurements of networks drawn uniformly inside a budget."""
    networks = FeasibleSet(space, budget).sample_many(np.random.default_rng(SEED), NUM_NETWORKS)
    table = LatencyTable(space, profile)
    predicted = np.array([table.latency(arch) for arch in networks], dtype=np.float64)
    measured = np.array(measured_latencies(timer, networks))
    again = np.array(measured_latencies(timer, networks))
    accuracy = quality_of(predicted, measured, [cost_of(arch).flops for arch in networks])
    errors = np.abs(predicted / measured - 1)
    return {
        "networks": name,
        **accuracy.model_dump(mode="json"),
        "mean_error": float(errors.mean()),
        "largest_error": float(errors.max()),
        "measured_again_error": float(np.median(np.abs(again / measured - 1))),
        "measured_again_tau": float(kendalltau(again, measured).statistic),
        "measured_ms": [round(value / 1000, 3) for value in measured.tolist()],
        "predicted_ms": [round(value / 1000, 3) for value in predicted.tolist()],
    }


def _public_case(path: Path) -> dict[str, Any]:
    """Returns an additive model of another family of networks: encoder and decoder, each a sum over its layers.

    Per layer constant, width times hidden width, width, heads; fitted to `NUM_PROFILED` networks as ours is.
    """
    from sret_nas.latency.fit import fit_coefficients

    with path.open(newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    order = np.random.default_rng(SEED).permutation(len(rows))
    features = np.array([_layer_sums(row) for row in rows])[order]
    latency = np.array([row["latency_mean_encoder"] + row["latency_mean_decoder"] for row in rows])[order]
    coefficients = fit_coefficients(features[:NUM_PROFILED], latency[:NUM_PROFILED])
    held_out = slice(NUM_PROFILED, None)
    size = features[held_out, 2] + features[held_out, 3] + features[held_out, 7] + features[held_out, 8]
    accuracy = quality_of(features[held_out] @ coefficients, latency[held_out], size.tolist())
    scores = {key: value for key, value in accuracy.model_dump(mode="json").items() if key != "flops_tau"}
    return {"table": path.name, "fitted_to": NUM_PROFILED, **scores, "weights_tau": accuracy.flops_tau}


def _layer_sums(row: dict[str, float]) -> list[float]:
    """Returns what adds over the layers of a network, and 1; columns 2, 3, 7 and 8 are numbers of weights."""
    sums = [1.0]
    for side in ("encoder", "decoder"):
        width, layers = row[f"{side}_embed_dim"], row[f"{side}_layer_num"]
        attentions = 1 if side == "encoder" else 2
        sums += [
            layers,
            layers * width * row[f"{side}_ffn_embed_dim_avg"] * 2,
            layers * width**2 * 4 * attentions,
            layers * width,
            layers * row[f"{side}_self_attention_heads_avg"],
        ]
    arbitrary = row["decoder_arbitrary_ende_attn_avg"] * row["decoder_layer_num"]
    return [*sums, arbitrary, row["decoder_ende_attention_heads_avg"] * row["decoder_layer_num"]]


def _show(result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"predicted latency, {result['setting']['device']}, 1 thread, batch 1", title_justify="left")
    for heading in ("networks", "held out", "median error", "largest", "tau", "tau of FLOPs"):
        table.add_column(heading, justify="left" if heading == "networks" else "right")
    for case in result["held_out"]:
        errors = f"{case['median_error']:.1%}", f"{case['largest_error']:.1%}"
        taus = f"{case['tau']:.2f}", f"{case['flops_tau']:.2f}"
        table.add_row(case["networks"], str(case["num_networks"]), *errors, *taus)
    for case in result["public_tables"]:
        name, error = case["table"].removesuffix(".csv"), f"{case['median_error']:.1%}"
        table.add_row(name, f"{case['num_networks']:,}", error, "", f"{case['tau']:.2f}", "")
    console.print(table)
    profile = result["profile"]
    console.print(f"profiled in {profile['seconds']:.0f} s: {profile['parts']} parts, {profile['rounds']} rounds")


if __name__ == "__main__":
    main()
