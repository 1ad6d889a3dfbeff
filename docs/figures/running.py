"""The figures of running: how long parts take, what precision changes, and what faults do."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from docs.figures.first_command import first_command_memory, first_command_seconds
from docs.figures.tables import load, script, table

PROCESSORS = {"Zen 5": "speed_training", "Xeon with AMX": "speed_training_intel"}
"""Files of results, by the processors that they were measured on."""


def training_steps_table() -> str:
    """Returns the speed of training steps against the public code in fp32, on each processor."""
    cases = [(name, case) for name, file in PROCESSORS.items() for case in load(file)["cases"]]
    ways = [[f"{way['ms']:,} ms; {way['speedup']:.2f}" for way in case["ways"]] for _, case in cases]
    header = ["training step", *(f"`{case['network']}`, {name}" for name, case in cases)]
    return table(header, [(way["way"], *row) for way, *row in zip(cases[0][1]["ways"], *ways, strict=True)])


def training_steps_of_intel() -> str:
    """Returns the speed of bf16 on the disturbed machine by the least times."""
    speeds = []
    for case in load(PROCESSORS["Xeon with AMX"])["cases"]:
        first, last = case["ways"][0], case["ways"][-1]
        assert (first["way"], last["way"]) == ("public code, fp32", "this project, bf16")
        speeds.append(f"{first['least_ms'] / last['least_ms']:.2f} (`{case['network']}`)")
    return " and ".join(speeds)


def precision_text() -> str:
    """Returns what bf16 changed in trials."""
    found = load("speed_precision")
    error, speed, orders = found["bf16_less_fp32_error"], found["speedup"], found["tau_of_seeds"]
    usual = found["speedup_over_usual"]
    own = " and ".join(f"{tau:.2f}" for tau in found["tau_of_precisions"].values())
    times = [1 / speed[name] for name in ("median", "most", "least")]
    return (
        f"Over {found['pairs']} pairs of trials of equal network and seed, bf16 took {times[0]:.2f} of the CPU time of "
        f"fp32 (median; {times[1]:.2f} to {times[2]:.2f}). Its errors were {100 * error['mean']:+.2f} points higher on "
        f"the mean (standard error {100 * error['standard_error']:.2f}). Kendall's tau between the errors of both "
        f"precisions was {own}, seed by seed. Between two seeds it was {orders['fp32 seed 0, fp32 seed 1']:.2f} in "
        f"fp32 and {orders['bf16 seed 0, bf16 seed 1']:.2f} in bf16. Beside fp32 with torch's own "
        f"products, trials were {usual['fp32']['median']:.2f} times as fast in fp32 and {usual['bf16']['median']:.2f} "
        "times in bf16."
    )


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


def faults_summary() -> str:
    """Returns how many searches were disturbed, and how they went."""
    rows = load("faults")["rows"]
    killed = sum(row["fault"] == "driver" for row in rows)
    good = sum(row["as_promised"] and row["same_front"] is not False for row in rows)
    return f"{len(rows)} searches were disturbed, {killed} of them by killing the driver; {good} went as promised"


FIGURES: dict[str, Callable[[], str]] = {
    "training-steps-table": training_steps_table,
    "training-steps-intel": training_steps_of_intel,
    "precision-summary": precision_text,
    "speed-table": speed_table,
    "tune-costs": tune_costs,
    "faults-summary": faults_summary,
}
"""The parts by the names that markers use."""
