"""The README says what is true: its table of mistakes, its file tree, its links."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from statistics import fmean, median

import pytest

from cli import main
from tests import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def table_of_mistakes() -> list[tuple[str, str]]:
    """(what is written, what is seen) of the section's table."""
    section = README.split("## When something is wrong")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| `(.*)` \|$", section, re.MULTILINE)
    return [(left, right) for left, right in rows]


def prepare(situation: str, folder: Path) -> None:
    """Makes what a row of the table takes for granted."""
    space = (REPOSITORY / "search_spaces" / "sret_tiny.yaml").read_text()
    if "heads: [1, 5]" in situation:
        (folder / "mine.yaml").write_text(space.replace("heads: [1, 2, 4]", "heads: [1, 5]"))
    if "widht" in situation:
        (folder / "mine.yaml").write_text(space.replace("width: [32, 48, 64]", "widht: [32]"))
    if "with 3 heads" in situation:
        stage = "{width: 64, heads: 3, blocks: 2, recursions: 2, groups: [8, 2]}"
        (folder / "arch.yaml").write_text(f"stages: [{stage}]\n")
    if "--data empty" in situation:
        (folder / "empty").mkdir()


@pytest.mark.parametrize("situation", [left for left, _ in table_of_mistakes()])
def test_a_mistake_gives_the_message_in_the_table(
    situation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(situation, tmp_path)
    command = shlex.split(situation.split("`")[1])
    if "RUN" in command:
        begin = (
            "search --no-supernet --space smoke --trials 1 --train-images 64 --max-train 64 --workers 0 --device cpu"
        )
        assert main([*begin.split(), "--out", "RUN"]) == 0
    try:
        code = main(command)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    assert code == 2
    assert dict(table_of_mistakes())[situation] in capsys.readouterr().err


def test_the_table_has_at_least_ten_rows() -> None:
    assert len(table_of_mistakes()) >= 10


def test_every_path_of_the_file_tree_exists() -> None:
    tree = README.split("## The file tree")[1].split("```text")[1].split("```")[0]
    folders: list[str] = []
    for line in tree.strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r"\s{2,}", line.strip())[0]
        for name in re.split(r",?\s+", names):
            assert (REPOSITORY / "/".join([*folders[:depth], name])).exists(), line
        folders[depth:] = [names.rstrip("/")]


def test_every_link_inside_the_repository_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert "search_spaces/README.md" in targets
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []


def test_the_figures_are_those_of_the_committed_results() -> None:
    results = REPOSITORY / "benchmarks" / "results"
    first = json.loads((results / "first_command.json").read_text())
    assert f"| {first['wall_seconds']:.0f} s, {first['peak_memory_mb'] / 1000:.1f} GB |" in README
    assert f"The search took {first['wall_seconds']:.0f} s" in README
    cost = json.loads((results / "cost.json").read_text())
    ratio = cost["fvcore_trace_s"] / cost["closed_form_s"]
    assert f"{cost['closed_form_s'] * 1e6:.0f} µs, {round(ratio, -2):,.0f} times faster" in README
    assert f"{cost['bulk'][-1]['architectures_per_s'] / 1e6:.1f} million a second" in README
    cases = {case["budget"]: case for case in json.loads((results / "feasible.json").read_text())["cases"]}
    whole, narrow = cases["at most 1 G FLOPs"], cases["SReT-T +-2 %"]
    assert f"{whole['networks']:,} and {whole['inside']:,}, counted in {whole['count_seconds']:.1f} s" in README
    assert f"{narrow['inside']:,}: one draw in {round(1 / narrow['share'], -2):,.0f} would hit" in README
    assert f"| a single uniform draw from those | {narrow['draw_ms']:.1f} ms |" in README
    assert f"| a million uniform draws from those | {whole['million_choices_seconds']:.1f} s |" in README


def test_so_are_those_of_proofs_latency_and_recursion() -> None:
    results = REPOSITORY / "benchmarks" / "results"
    tiny = json.loads((results / "exact_front.json").read_text())["spaces"][0]
    window = tiny["windows"][0]
    assert (tiny["space"], window["window"]) == ("sret_tiny", "unbounded")
    assert f"| {window['front_seconds']:.1f} s, once {tiny['halves_seconds']:.1f} s of tables are there |" in README
    gap = next(case["hypervolume_gap_percent"] for case in window["bucketed"] if case["width"] == 0.01)
    assert f"buckets of 1 % miss of its hypervolume | {gap:.2f} % |" in README
    held_out = json.loads((results / "latency.json").read_text())["held_out"][0]
    assert f"Latency predicted for {held_out['num_networks']} held-out networks" in README
    error, tau, of_flops = (held_out[key] for key in ("median_error", "tau", "flops_tau"))
    assert f"median error {100 * error:.1f} %, Kendall tau {tau:.2f}; FLOPs alone {of_flops:.2f}" in README
    recursion = json.loads((results / "recursion_additivity.json").read_text())
    entropy, best = recursion["cross_entropy"]["ceiling"], recursion["cross_entropy"]["labels"]["40"]
    assert f"{recursion['networks']} cost-stratified networks" in README
    assert f"Kendall tau of {entropy['tau_between_seeds']:.2f} in cross-entropy" in README
    assert f"more than {100 * entropy['largest_r2_that_noise_allows']:.0f} % of the" in README
    explained = [round(100 * best[model]["r2"][1]) for model in ("FLOPs", "with pairs")]
    assert f"FLOPs alone explain {explained[0]} % of unseen" in README
    assert f"sums of effects with pairs {explained[1]} %" in README


def test_so_are_those_of_supernets() -> None:
    results = REPOSITORY / "benchmarks" / "results"
    ranking = json.loads((results / "ranking.json").read_text())["error"]
    best = max(ranking["supernets"], key=lambda row: row["steps"])
    assert f"Kendall tau of {best['tau']:.2f} ({best['tau_interval'][0]:.2f} to" in README
    assert f"and {best['tau_in_bins']:.2f}\namong networks of like FLOPs" in README
    flops, params = ranking["costs"]["flops"], ranking["costs"]["params"]
    assert f"FLOPs alone {flops['tau']:.2f} and {flops['tau_in_bins']:.2f}" in README
    assert f"parameters {params['tau']:.2f} and {params['tau_in_bins']:.2f}" in README
    tight = json.loads((results / "ranking.json").read_text())["within_budget"]
    spread, balanced = (
        next(row["tau"] for row in tight["supernets"] if (row["variant"], row["seconds"]) == (name, 60))
        for name in ("single", "balanced draws")
    )
    assert f"of supernets for the {tight['networks']} of these networks within 2.2 M FLOPs" in README
    assert f"alone ranked them with {spread:.2f}, for wide" in README
    assert f"default, with {balanced:.2f}, FLOPs with {tight['costs']['flops']['tau']:.2f}" in README
    cases = json.loads((results / "supernet_speed.json").read_text())["cases"]
    tiny, small = (
        next(case for case in cases if (case["space"], case["image_size"]) == which)
        for which in (("sret_tiny", 40), ("sret_small", 32))
    )
    assert f"| {tiny['median_ratio']:.2f} (median; {tiny['largest_ratio']:.2f} at most) |" in README
    assert f"| {small['median_ratio']:.2f} ({small['largest_ratio']:.2f} at most) |" in README


def test_so_are_those_of_searches_at_equal_seconds() -> None:
    entries = json.loads((REPOSITORY / "benchmarks" / "results" / "end_to_end.json").read_text())["entries"]
    shown = {"supernet and additive, a fifth of the time": "the same in a fifth of the time"}
    volumes = {}
    for name, entry in entries.items():
        runs = entry["runs"]
        volumes[name] = [run["hypervolume"] for run in runs]
        row = (
            f"| {shown.get(name, name)} | {entry['seconds']:.0f} | {median(run['networks'] for run in runs):.0f} | "
            f"{median(volumes[name]):.4f} ({min(volumes[name]):.4f} to {max(volumes[name]):.4f}) | "
            f"{100 * fmean(run['mean_test_error'] for run in runs):.1f} % |"
        )
        assert row in README
    at = {
        name: [100 * median(run["recommended"][k]["test_error"] if run["recommended"][k] else 0.65 for run in runs)
               for k in (2, 4)]
        for name, runs in ((name, entry["runs"]) for name, entry in entries.items())
    }  # fmt: skip
    random, nsga2, scratch, ours, fifth = entries
    assert f"{at[ours][0]:.1f} % against {at[random][0]:.1f} % and {at[nsga2][0]:.1f} %, while" in README
    assert f"({at[ours][1]:.1f} % against {at[random][1]:.1f} %)" in README
    for other in (random, nsga2):
        assert all(mine > theirs for mine, theirs in zip(volumes[fifth], volumes[other], strict=True))
    for name, words in ((ours, "the larger in {} of 5 seeds"), (fifth, "in a fifth ({} of 5)")):
        better = sum(mine > theirs for mine, theirs in zip(volumes[name], volumes[scratch], strict=True))
        assert words.format(better) in README


def test_so_are_those_of_early_stopping() -> None:
    entries = json.loads((REPOSITORY / "benchmarks" / "results" / "early_stopping.json").read_text())["entries"]
    without, rungs = (entries[name] for name in ("additive", "additive, 3 rungs"))
    seen = [median(entry["begun"]) for entry in (rungs, without)]
    assert f"sees {seen[0]:.0f} networks instead of {seen[1]:.0f}" in README
    ends = [[volumes[-1] for volumes in entry["volumes"]] for entry in (rungs, without)]
    assert f"is {median(ends[0]):.3f} instead of {median(ends[1]):.3f} (medians)" in README
    assert all(mine > theirs for mine, theirs in zip(*ends, strict=True))
    half = median(volumes[len(volumes) // 2 - 1] for volumes in rungs["volumes"])
    assert f"half of the time gives {half:.3f}" in README


def test_so_are_those_of_asking() -> None:
    result = json.loads((REPOSITORY / "benchmarks" / "results" / "asking.json").read_text())
    means = {
        name: {number: row["mean"] for number, row in rows.items()}
        for name, rows in result["processor_seconds_per_ask"].items()
    }
    ours = [means["additive"][number] for number in ("20", "200", "2000")]
    assert f"mean | {ours[0]:.2f}, {ours[1]:.2f} and {ours[2]:.2f} s of one core" in README
    others = [1000 * means[name]["200"] for name in ("evolution", "tpe", "nsga2")]
    assert f"after 200 | {others[0]:.0f}, {others[1]:.0f} and {others[2]:.0f} ms |" in README


def test_so_are_those_of_engines() -> None:
    results = REPOSITORY / "benchmarks" / "results"
    engines = json.loads((results / "engines.json").read_text())
    work = {(row["system"], row["workers"]): row for row in engines["work"]}
    names = "local engine", "Ray engine", "Tune with OptunaSearch"
    seconds = {name: [work[name, workers]["jobs_seconds"] for workers in (1, 2)] for name in names}
    shares = [
        0.1 * row["overhead_ms_per_job"] * row["jobs"] / row["computing_seconds"]
        for row in (work[name, 2] for name in names)
    ]
    assert f"| {shares[0]:.1f} % and {shares[1]:.1f} %; `tune.Tuner` with" in README
    assert f"as most write it: {shares[2]:.1f} % |" in README
    local, ray, _ = (one / two for one, two in seconds.values())
    assert f"four such trials | {local:.2f} and {ray:.2f} times as fast |" in README
    empties = {row["system"]: row["overhead_ms_per_job"] for row in engines["empty"]}
    empty = [empties[name] for name in names]
    assert f"| {empty[0]:.1f} and {empty[1]:.1f} ms; that `tune.Tuner`: {empty[2]:,.0f} ms |" in README
    found = json.loads((results / "scale.json").read_text())["strategies"]
    row = next(strategy["rows"][-1] for strategy in found if strategy["strategy"] == "additive")
    assert row["trials"] == 10_000
    asking = row["ask"]["processor_mean_ms"]
    recording = sum(row[step]["processor_mean_ms"] for step in ("ask record", "record"))
    assert f"| {asking:.1f} and {recording:.1f} ms of one core; {row['memory_mb']:.0f} MB above start |" in README
    driver = [row["driver_ms_per_trial"] for row in json.loads((results / "cluster_random.json").read_text())["rows"]]
    assert f"100,000 trials | {driver[0]:.1f}, {driver[1]:.1f} and {driver[2]:.1f} ms |" in README


def test_so_is_what_is_said_of_faults() -> None:
    rows = json.loads((REPOSITORY / "benchmarks" / "results" / "faults.json").read_text())["rows"]
    assert f"[{len(rows)} small searches]" in README
    assert f"{sum(row['fault'] == 'driver' for row in rows)} of\nthem by killing the driver" in README
    assert all(row["as_promised"] and row["same_front"] is not False for row in rows)


def test_the_table_of_strategies_is_the_benchmark_s() -> None:
    table = README.split("### Strategies compared")[1].split("\n### ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    overview = (REPOSITORY / "benchmarks" / "results" / "search.md").read_text()
    assert len(rows) >= 10
    assert [row for row in rows if row not in overview] == []


def test_what_is_said_of_hw_gpt_is_so() -> None:
    problems = json.loads((REPOSITORY / "benchmarks" / "results" / "search.json").read_text())["problems"]
    for name in [f"hwgpt-{size}{noise}" for size in "sml" for noise in ("", "-noise-2")]:
        strategies = problems[name]["strategies"]
        after_20 = strategies["additive"]["regret"]["20"][0]
        assert after_20 < min(strategies[other]["regret"]["200"][0] for other in ("nsga2-20", "nsga2-50", "tpe"))
        assert {it["wins"] for it in problems[name]["against"]["200"].values()} == {20}
    small, middle, large = (problems[f"hwgpt-{size}"]["strategies"]["additive"]["regret"]["200"] for size in "sml")
    assert small[0] <= 0.7
    assert middle[0] <= 0.9
    assert large[0] <= 1.2
    against = problems["sret-tiny"]["against"]["40"]["random"]["p_holm"]
    assert f"by more than noise (p = {against:.2f})" in README
    window = problems["hwgpt-s-window"]
    ends = [window["strategies"][name]["regret"]["200"][0] for name in ("evolution", "additive")]
    assert (
        f"({ends[0]:.2f} against {ends[1]:.2f},\np = {window['against']['200']['evolution']['p_holm']:.2f})" in README
    )
    for number in ("20", "50"):
        behind, ahead = (window["strategies"][name]["regret"][number] for name in ("evolution", "additive"))
        assert behind[1] > ahead[2]  # their intervals do not touch
