"""Every figure of the documentation, from the result files in benchmarks/results/: nothing here is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from sret_nas.arch.presets import PRESETS
from sret_nas.yaml_files import read_yaml

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
STUDIES = Path(__file__).resolve().parent.parent / "studies"

Row = Sequence[str]


def load(name: str) -> Any:
    """Returns a result file as plain data."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(header: Row, rows: Iterable[Row]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def script(path: str) -> str:
    """Returns a link from docs/ to a benchmark."""
    return f"[{path}](../benchmarks/{path})"


# The first command


def first_command_seconds() -> str:
    return f"{load('first_command')['wall_seconds']:.0f} s"


def first_command_memory() -> str:
    return f"{load('first_command')['peak_memory_mb'] / 1000:.1f} GB"


def first_output() -> str:
    """Returns six lines that say what the first command did, as it printed them."""
    lines = (RESULTS / "first_command.txt").read_text(encoding="utf-8").splitlines()

    def last(*words: str) -> str:
        return next(line for line in reversed(lines) if all(word in line for word in words))

    wanted = (("Search:",), ("validation accuracy",), ("trial ", " error ", " left]"), ("Recommending the best",),
              ("fine-tuned:", "test error"), ("Networks:",))  # fmt: skip
    return "\n".join(["```text", *(last(*words).rstrip() for words in wanted), "```"])


def control_table() -> str:
    """Returns the finalists of the first command beside the random networks of equal FLOPs."""
    lines = (RESULTS / "first_command.txt").read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("Was it luck?"))
    cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in lines[begin:] if line.startswith("│")]
    note = next(line for line in lines[begin:] if line.startswith("Of "))
    header = ["trial", "FLOPs, found", "FLOPs, random", "test error, found", "test error, random", "difference"]
    return table(header, cells) + "\n\n" + note


# Very deep networks


def very_deep_table() -> str:
    """Returns the trainings of very deep networks, with and without gradient checkpointing."""
    rows = [
        (
            row["network"].replace("sret_deep_108", "`sret_deep_108`"),
            f"{row['applications']:,}",
            f"{row['image_size']} px",
            f"{row['flops'] / 1e9:.2f} G",
            f"{row['params'] / 1e6:.1f} M",
            f"{row['seconds_to_build']:.1f} s",
            "yes" if row["gradient_checkpointing"] else "no",
            f"{row['training_megabytes']:,} MB",
            f"{row['seconds_per_step']:.1f} s",
            f"{row['losses'][0]:.2f} to {row['losses'][-1]:.2f}",
        )
        for row in load("very_deep")["trainings"]
    ]
    header = ["network", "block applications", "images", "FLOPs", "parameters", "built in", "checkpointing",
              "memory of training", "a step", "loss"]  # fmt: skip
    return table(header, rows)


def very_deep_setting() -> str:
    """Returns how the very deep networks were trained: `5 steps of 4 images, ...`."""
    found = load("very_deep")
    threads = "1 thread" if found["threads"] == 1 else f"{found['threads']} threads"
    return (
        f"{found['steps']} steps of {found['batch_size']} images on {threads} of {found['cpu']}, "
        f"torch {found['versions']['torch']}, {found['date']}, seed {found['seed']}"
    )


# Cost, counting, drawing


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


# Precision


def training_steps_table() -> str:
    """Returns the speed of training steps against the public code in fp32."""
    cases = load("speed_training")["cases"]
    ways = [[f"{way['ms']:,} ms; {way['speedup']:.2f}" for way in case["ways"]] for case in cases]
    header = ["training step", *(f"`{case['network']}`, batch of {case['batch_size']}" for case in cases)]
    return table(header, [(way["way"], *row) for way, *row in zip(cases[0]["ways"], *ways, strict=True)])


# Running


def speed_table() -> str:
    asking = load("asking")["processor_seconds_per_ask"]
    engines, scale = load("engines"), load("scale")
    driver = load("cluster_random")["rows"]
    additive = next(row for row in scale["strategies"] if row["strategy"] == "additive")["rows"][-1]
    recording = sum(additive[step]["processor_mean_ms"] for step in ("ask record", "record"))
    supernet = {(case["space"], case["image_size"]): case for case in load("supernet_speed")["cases"]}
    rows = [("The first command", f"{first_command_seconds()}, {first_command_memory()}", script("first_command.py"))]
    for labels in (20, 200, 2000):
        mean = asking["additive"][str(labels)]["mean"]
        link = script("asking.py") if labels == 20 else ""
        rows.append((f"`additive` proposes a trial after {labels:,} results", f"{1000 * mean:.0f} ms", link))
    for name in ("evolution", "tpe", "nsga2"):
        rows.append(
            (f"`{name}` proposes a trial after 200 results", f"{1000 * asking[name]['200']['mean']:.0f} ms", "")
        )
    for space, size in (("sret_tiny", 40), ("sret_small", 32)):
        case = supernet[space, size]
        link = script("supernet_speed.py") if space == "sret_tiny" else ""
        ratio = f"{case['median_ratio']:.2f} (at most {case['largest_ratio']:.2f})"
        rows.append(
            (f"Training pass of a subnet over that of the extracted network, `{space}`, {size} px", ratio, link)
        )
    names = {"local engine": "local engine", "Ray engine": "Ray engine", "Tune with OptunaSearch": "`tune.Tuner`"}
    empty = {row["system"]: row["overhead_ms_per_job"] for row in engines["empty"]}
    work = {(row["system"], row["workers"]): row for row in engines["work"]}
    for number, (system, name) in enumerate(names.items()):
        row = work[system, 2]
        share = row["overhead_ms_per_job"] * row["jobs"] / 1000 / row["computing_seconds"]
        overhead = f"{empty[system]:,.1f} ms; {100 * share:.1f} %"
        link = script("engines/run.py") if number == 0 else ""
        rows.append((f"Overhead of an empty trial; share of a trial of 30 s: {name}", overhead, link))
    for system in ("local engine", "Ray engine"):
        faster = work[system, 1]["jobs_seconds"] / work[system, 2]["jobs_seconds"]
        rows.append((f"Speed of two workers over one: {system}", f"{faster:.2f}", ""))
    asked = f"{additive['ask']['processor_mean_ms']:.1f} ms; {recording:.1f} ms; {additive['memory_mb']:.0f} MB"
    what = f"Proposing; recording; memory added, at {additive['trials']:,} finished trials"
    rows.append((what, asked, script("engines/scale.py")))
    for number, row in enumerate(driver):
        what = f"Driver's time per trial at {round(row['trials'], -2):,} trials, 1,000 simulated workers"
        rows.append((what, f"{row['driver_ms_per_trial']:.1f} ms", "" if number else script("engines/cluster.py")))
    return table(["what", "measured", "script"], rows)


def faults_summary() -> str:
    """Returns how many searches were disturbed, and how they went."""
    rows = load("faults")["rows"]
    killed = sum(row["fault"] == "driver" for row in rows)
    good = sum(row["as_promised"] and row["same_front"] is not False for row in rows)
    return f"{len(rows)} searches were disturbed, {killed} of them by killing the driver; {good} went as promised"


# Searching


MIN_SEEDS = 5
"""Fewest seeds of a median that may be called the lowest."""
USUAL_SEEDS = 20
"""Seeds of a strategy in the comparison, where a table does not say otherwise."""


def regret_of(problem: str, strategy: str, number: str) -> str:
    """Returns median and range over seeds, e.g. `0.53 (0.41-0.70)`; the number of seeds if it is not the usual one.

    Empty where the strategy has no result, or has decided nothing of its own before that many evaluations.
    """
    found = load("search")["problems"][problem]["strategies"].get(strategy)
    if found is None or number not in found["regret"]:
        return ""
    low, high = found["range"][number]
    if found["seeds"] == 1:
        return f"{found['regret'][number][0]:.2f} (1 seed)"
    seeds = "" if found["seeds"] == USUAL_SEEDS else f", {found['seeds']} seeds"
    return f"{found['regret'][number][0]:.2f} ({low:.2f}-{high:.2f}{seeds})"


def median_regret(problem: str, strategy: str, number: str) -> float:
    """Returns the median regret; infinite where there is none, or of fewer than `MIN_SEEDS` seeds."""
    found = load("search")["problems"][problem]["strategies"].get(strategy)
    if found is None or found["seeds"] < MIN_SEEDS:
        return float("inf")
    return float(found["regret"].get(number, (float("inf"),))[0])


def strategies_table() -> str:
    """Returns the regret of every strategy at the last checkpoint of every problem; the least median is bold."""
    problems = load("search")["problems"]
    names = list(dict.fromkeys(name for problem in problems.values() for name in problem["strategies"]))
    rows = []
    for key, problem in problems.items():
        last = max((number for found in problem["strategies"].values() for number in found["regret"]), key=int)
        least = min(round(median_regret(key, name, last), 2) for name in names)
        cells = [regret_of(key, name, last) for name in names]
        is_least = [round(median_regret(key, name, last), 2) == least for name in names]
        shown = [f"**{cell}**" if bold else cell for cell, bold in zip(cells, is_least, strict=True)]
        rows.append([problem["title"], last, *shown])
    return table(["problem", "evaluations", *names], rows)


def regret_by_evaluations() -> str:
    """Returns the regret on the three HW-GPT spaces after 20, 50, 100 and 200 evaluations, and seconds of asking."""
    problems = load("search")["problems"]
    numbers = ("20", "50", "100", "200")
    rows = []
    for name in ("hwgpt-s", "hwgpt-m", "hwgpt-l"):
        for strategy, found in problems[name]["strategies"].items():
            cells = [regret_of(name, strategy, number) for number in numbers]
            rows.append([problems[name]["title"], strategy, *cells, f"{found['ms_per_ask'] / 1000:.2g} s"])
    return table(["space", "strategy", *(f"after {number}" for number in numbers), "asking, per trial"], rows)


def tune_costs() -> str:
    """Returns what an empty job costs with each engine on Ray, and the load at that time."""
    found = load("engine_tune")
    rows = found["rows"]

    def cost(engine: str, name: str) -> str:
        return f"{median(row[name] for row in rows if row['engine'] == engine):.1f} ms"

    wall, driver = "wall_ms_per_job", "driver_cpu_ms_per_job"
    return (
        f"An empty job took {cost('tune', wall)} with `--engine tune` and {cost('ray', wall)} with `--engine ray`, and "
        f"{cost('tune', driver)} and {cost('ray', driver)} of the driver's processor time (medians of "
        f"{len(rows) // 2} measurements on {found['workers']} workers, at a load of "
        f"{median(row['load'] for row in rows):.0f} on {found['machine']['cores']} cores)."
    )


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
        f"By inherited cross-entropy, two supernets that differ in their seed alone agree with tau {span('agreement')} "
        f"inside widths ({len(rows)} variants). With the networks' own trainings their mean has {span('truth')}, where "
        f"a perfect prediction would have {perfect:.2f}."
    )


def end_to_end_table() -> str:
    rows = []
    for name, entry in load("end_to_end")["entries"].items():
        runs = entry["runs"]
        volumes = [run["hypervolume"] for run in runs]
        rows.append(
            (
                name,
                f"{entry['seconds']:.0f}",
                f"{median(run['networks'] for run in runs):.0f}",
                f"{median(volumes):.4f} ({min(volumes):.4f} to {max(volumes):.4f})",
                f"{100 * fmean(run['mean_test_error'] for run in runs):.1f} %",
                *(f"{100 * error:.1f} %" for error in (_error_at(runs, 2), _error_at(runs, 4))),
            )
        )
    header = ["search", "core seconds", "networks", "hypervolume, median (range)", "mean test error", "at 1 MFLOPs"]
    return table([*header, "at 2 MFLOPs"], rows)


def _error_at(runs: list[dict[str, Any]], budget: int) -> float:
    """Returns the median test error of what was recommended for a budget; 65 % where nothing was."""
    found = [run["recommended"][budget] for run in runs]
    return median(network["test_error"] if network else 0.65 for network in found)


def early_stopping_table() -> str:
    rows = []
    for name, entry in load("early_stopping")["entries"].items():
        half, end = ([volumes[at] for volumes in entry["volumes"]] for at in (len(entry["volumes"][0]) // 2 - 1, -1))
        rows.append(
            (
                name,
                f"{median(entry['begun']):.0f}",
                f"{median(entry['ended']):.0f}",
                f"{median(half):.3f}",
                f"{median(end):.3f} ({min(end):.3f} to {max(end):.3f})",
            )
        )
    return table(["search", "trials begun", "finished", "hypervolume at half time", "at the end (range)"], rows)


def recursion_table() -> str:
    recursion = load("recursion_additivity")
    labels = recursion["cross_entropy"]["labels"]
    rows = [(model, *(f"{labels[number][model]['r2'][1]:.2f}" for number in labels)) for model in labels["40"]]
    return table(["model", *(f"{number} labels" for number in labels)], rows)


def recursion_noise() -> str:
    ceiling = load("recursion_additivity")["cross_entropy"]["ceiling"]
    return f"{100 * ceiling['largest_r2_that_noise_allows']:.0f} %"


def recursion_networks() -> str:
    return str(load("recursion_additivity")["networks"])


# Networks


def presets() -> str:
    return ", ".join(f"`{name}`" for name in PRESETS)


# README


def readme_figures() -> str:
    """Returns the three figures of the README."""
    cases = {case["budget"]: case for case in load("feasible")["cases"]}
    whole = cases["at most 1 G FLOPs"]
    entries = load("end_to_end")["entries"]
    fifth, nsga2 = (
        median(run["hypervolume"] for run in entries[name]["runs"])
        for name in ("supernet and additive, a fifth of the time", "NSGA-II, from scratch")
    )
    seconds = [
        entries[name]["seconds"] for name in ("supernet and additive, a fifth of the time", "NSGA-II, from scratch")
    ]
    rows = [
        (
            f"Networks of `sret_tiny` within 1 GFLOPs, counted in {whole['count_seconds']:.1f} s",
            f"{whole['inside']:,}",
            "[exact counts](docs/results.md#cost-counts-and-draws)",
        ),
        (
            "HW-GPT M, 200 networks: regret of `additive`; of `stratified`, which learns nothing; of Optuna's TPE",
            "; ".join(f"{regret_of('hwgpt-m', name, '200')} %" for name in ("additive", "stratified", "tpe")),
            "[strategies](docs/results.md#strategies)",
        ),
        (
            f"CIFAR-10: hypervolume of a search of {seconds[0]:.0f} s, all included; of NSGA-II in {seconds[1]:.0f} s",
            f"{fifth:.3f}; {nsga2:.3f}",
            "[whole searches](docs/results.md#whole-searches-at-equal-time)",
        ),
    ]  # fmt: skip
    return table(["measured", "", "more"], rows)


# Initialisation


def initialisation_table() -> str:
    """Returns PyTorch's defaults against the old initialisation: paired differences with 95 % intervals."""
    result = load("initialisation")
    rows = [
        [
            f"{setting['data']}, {setting['network']}, {setting['images']:,} images",
            *_differences(setting["schemes"]["torch"]["differences"]),
        ]
        for setting in result["settings"]
    ]
    rows.append(["all pairs together", *_differences(result["together"]["torch"])])
    return table(["what was trained", "pairs", "training loss", "validation cross-entropy", "test error, points"], rows)


def _differences(found: dict[str, Any]) -> list[str]:
    """Returns the number of pairs, and for each metric the mean difference, its interval, and the pairs won."""
    cells = [str(found["train_loss"]["pairs"])]
    for metric, factor, digits in (("train_loss", 1, 3), ("val_cross_entropy", 1, 3), ("test_error", 100, 2)):
        difference = found[metric]
        half = difference["half_interval"]
        interval = "" if half is None else f" ± {factor * half:.{digits}f}"
        cells.append(f"{factor * difference['mean']:+.{digits}f}{interval} ({difference['better']} better)")
    return cells


def alternatives_table() -> str:
    """Returns published networks of about SReT-T's cost, cheapest first."""

    def top1(row: dict[str, Any]) -> str:
        distilled = row.get("top1_distilled")
        return f"{row['top1']:.1f}" if distilled is None else f"**{row['top1']:.1f} / {distilled:.1f}**"

    return table(
        ["network", "px", "GFLOPs", "M parameters", "top-1 %"],
        (
            (row["model"] if "." in row["model"] else f"**{row['model']}**", f"{row['image_size']}",
             f"{row['flops'] / 1e9:.2f}", f"{row['params'] / 1e6:.2f}", top1(row))
            for row in load("alternatives")["models"]
        ),
    )  # fmt: skip


def alternatives_script() -> str:
    return script("alternatives.py")


def size_table() -> str:
    """Returns the slopes of error over FLOPs after short and longer trainings."""
    return table(
        ["training images", "input", "trainings", "points per doubling of FLOPs", "95 % interval"],
        (
            (f"{row['images']:,}", f"{row['image_size']} px", f"{row['trainings']}",
             f"{row['points_per_doubling']:+.2f}", "{:+.2f} to {:+.2f}".format(*row["interval"]))
            for row in load("size_slope")["tables"]
        ),
    )  # fmt: skip


def depth_distillation_table() -> str:
    """Returns what distilling from the deepest pass changed at each depth."""
    found = load("depth_distillation")

    def error(variant: dict[str, Any], at_depth: int) -> str:
        depths = [depth for training in variant["trainings"] for depth in training["depths"]]
        return f"{100 * fmean(depth['error'] for depth in depths if set(depth['recursions']) == {at_depth}):.1f} %"

    plain, taught = found["variants"]
    differences = {claim["at_depth"]: claim["difference_in_points"] for claim in found["claims"]}
    return table(
        ["recursions", "error without", "error with distillation", "difference in points", "90 % interval"],
        (
            (str(depth), error(plain, depth), error(taught, depth),
             f"{-row['mean']:+.1f}", f"{-row['high']:+.1f} to {-row['low']:+.1f}")
            for depth, row in differences.items()
        ),
    )  # fmt: skip


def depth_distillation_text() -> str:
    """Returns how those trainings were run."""
    found = load("depth_distillation")
    training = found["variants"][0]["trainings"][0]
    return (
        f"{len(found['seeds'])} pairs of trainings of equal seed, each on {training['images']:,} images of CIFAR-10 "
        f"({training['steps']} steps), tested on {training['test_images']:,}; {found['precision']}, {found['date']}, "
        f"torch {found['versions']['torch']}."
    )


def precision_text() -> str:
    """Returns what bf16 changed in trials."""
    found = load("speed_precision")
    error, speed, orders = found["bf16_less_fp32_error"], found["speedup"], found["tau_of_seeds"]
    own = " and ".join(f"{tau:.2f}" for tau in found["tau_of_precisions"].values())
    times = [1 / speed[name] for name in ("median", "most", "least")]
    return (
        f"Over {found['pairs']} pairs of trials of equal network and seed, bf16 took {times[0]:.2f} of the CPU time of "
        f"fp32 (median; {times[1]:.2f} to {times[2]:.2f}). Its errors were {100 * error['mean']:+.2f} points higher on "
        f"the mean (standard error {100 * error['standard_error']:.2f}). Kendall's tau between the errors of both "
        f"precisions was {own}, seed by seed. Between two seeds it was {orders['fp32 seed 0, fp32 seed 1']:.2f} in "
        f"fp32 and {orders['bf16 seed 0, bf16 seed 1']:.2f} in bf16."
    )


# Studies


_VERDICTS = {
    "holds": "holds", "does not hold": "does not hold here", "cannot tell": "cannot tell at this scale",
    "not run": "not run",
}  # fmt: skip


def studies_table() -> str:
    """Returns every claim of the shipped studies, their figure, and what came out; for docs/studies/."""
    rows = []
    for name in _STUDY_ORDER:
        study = read_yaml(STUDIES / f"{name}.yaml")
        results = RESULTS / "studies" / f"{name}.json"
        claims = json.loads(results.read_text(encoding="utf-8"))["claims"] if results.is_file() else study["claims"]
        for number, claim in enumerate(claims):
            title = study["title"] if not results.is_file() else f"[{study['title']}]({name}.md)"
            rows.append((title if number == 0 else "", *_claim_cells(claim)))
    return table(("study", "claim", "their figure", "here: points of test error", "at this scale"), rows)


def _claim_cells(claim: dict[str, Any]) -> Row:
    text = f"{claim['text']} ({claim['source']})"
    figure, difference = claim.get("figure") or "none given", claim.get("difference_in_points")
    if difference is None:
        return text, figure, "not run", "not run"
    found = f"{claim['compared']} = {difference['mean']:+.2f}"
    if difference["low"] is not None:
        found += f" ({difference['low']:+.2f} to {difference['high']:+.2f}; {difference['seeds']} seeds)"
    else:
        found += " (one seed)"
    return text, figure, found, _VERDICTS[claim["verdict"]]


_STUDY_ORDER = (
    "recursion", "loops", "nll", "groups", "residuals", "stem", "head", "distillation", "depths", "deep",
)  # fmt: skip


FIGURES: dict[str, Callable[[], str]] = {
    "alternatives-script": alternatives_script,
    "alternatives-table": alternatives_table,
    "control-table": control_table,
    "cost-table": cost_table,
    "early-stopping-table": early_stopping_table,
    "end-to-end-table": end_to_end_table,
    "faults-summary": faults_summary,
    "first-command-memory": first_command_memory,
    "first-command-seconds": first_command_seconds,
    "first-output": first_output,
    "initialisation-table": initialisation_table,
    "latency-table": latency_table,
    "plain-fvcore-range": plain_fvcore_range,
    "plain-fvcore-table": plain_fvcore_table,
    "precision-summary": precision_text,
    "presets": presets,
    "tune-costs": tune_costs,
    "ranking-networks": ranking_networks,
    "ranking-table": ranking_table,
    "readme-figures": readme_figures,
    "recursion-networks": recursion_networks,
    "recursion-noise": recursion_noise,
    "recursion-table": recursion_table,
    "regret-by-evaluations": regret_by_evaluations,
    "sampling-table": sampling_table,
    "size-table": size_table,
    "depth-distillation": depth_distillation_table,
    "depth-distillation-text": depth_distillation_text,
    "speed-table": speed_table,
    "strategies-table": strategies_table,
    "supernet-agreement": supernet_agreement,
    "studies-table": studies_table,
    "training-steps-table": training_steps_table,
    "very-deep-setting": very_deep_setting,
    "very-deep-table": very_deep_table,
}
"""The parts by the names that markers use."""
