"""Sentences of docs/results.md that compare figures, held against the results."""

from __future__ import annotations

from itertools import product
from statistics import fmean, median

from docs.figures.tables import load


def test_additive_is_ahead_of_optunas_samplers_in_every_seed() -> None:
    problems = load("search")["problems"]
    others = ("random", "nsga2-20", "nsga2-50", "tpe", "stratified", "nsga2-design", "evolution")
    for size in "sml":
        ranges = {name: found["range"]["200"] for name, found in problems[f"hwgpt-{size}"]["strategies"].items()}
        for name in ranges.keys() & {"additive", "additive-before"}:
            assert ranges[name][1] < min(ranges[other][0] for other in others)


def test_where_additive_does_not_win() -> None:
    problems = load("search")["problems"]
    for name, (wins, losses) in {"autoformer-c100": (6, 12), "autoformer-flower": (9, 11)}.items():
        beside = problems[name]["against"]["50"]["evolution"]
        assert (beside["wins"], beside["losses"]) == (wins, losses)
        assert beside["p_holm"] > 0.05
    assert problems["autoformer-flower"]["against"]["50"]["stratified"]["wins"] == 11
    pit = problems["pit-chaoyang"]["against"]["50"]
    assert (pit["additive-before"]["wins"], pit["additive-before"]["losses"]) == (6, 10)
    window = problems["hwgpt-s-window"]["against"]
    assert (window["200"]["evolution"]["wins"], window["200"]["evolution"]["losses"]) == (11, 9)
    medians = {
        name: problems["hwgpt-s-window"]["strategies"][name]["regret"]["200"][0] for name in ("additive", "evolution")
    }
    assert medians["additive"] > medians["evolution"]
    assert window["50"]["evolution"]["losses"] == 0
    before = {name: problems[name]["against"] for name in ("hwgpt-s", "hwgpt-s-noise-2", "shuffled")}
    counted = {
        name: {number: each["additive-before"]["wins"] for number, each in against.items()}
        for name, against in before.items()
    }
    assert counted["hwgpt-s"]["20"] == counted["hwgpt-s"]["50"] == counted["hwgpt-s-noise-2"]["50"] == 4
    assert (counted["hwgpt-s"]["200"], counted["hwgpt-s-noise-2"]["200"]) == (18, 8)
    for size, number in product("ml", ("50", "100", "200")):
        for name in (f"hwgpt-{size}", f"hwgpt-{size}-noise-2"):
            found = problems[name]["against"][number]["additive-before"]
            assert found["wins"] >= found["losses"]
    for size in "sml":
        noisy = problems[f"hwgpt-{size}-noise-2"]["strategies"]["additive"]
        assert noisy["estimated_regret"][0] < noisy["recommended_regret"][0]
    bench = problems["sret-bench"]["against"]["200"]
    assert bench["evolution"]["wins"] == 16
    assert all(found["losses"] == 0 for name, found in bench.items() if name != "evolution")
    shuffled = problems["shuffled"]["against"]["200"]
    lost = {name: (shuffled[name]["losses"], round(shuffled[name]["p_holm"], 2)) for name in shuffled}
    assert lost["additive-before"] == (16, 0.03)
    assert lost["evolution"] == (14, 0.15)
    assert lost["tpe"][0] == 11


def test_where_parego_is_level_and_where_it_is_behind() -> None:
    problems = load("search")["problems"]
    tables = {name: each["against"] for name, each in problems.items() if each["strategies"].get("parego")}
    beside = {name: against[max(against, key=int)]["parego"] for name, against in tables.items()}
    counted = {name: (each["wins"], each["losses"]) for name, each in beside.items() if not name.startswith("hwgpt")}
    assert counted["autoformer-c100"] == (10, 9)
    assert counted["autoformer-chaoyang"] == (9, 2)
    level = {"autoformer-c100", "autoformer-chaoyang"}
    assert all(16 <= wins <= 20 for name, (wins, _) in counted.items() if name not in level)


def test_where_gaussian_processes_are_ahead_and_where_they_are_behind() -> None:
    problems = load("search")["problems"]
    against = {name: each["against"][max(each["against"], key=int)] for name, each in problems.items()}
    whole_spaces = ("hwgpt-s", "hwgpt-m", "hwgpt-l", "sret-bench")
    botorch = {name: (each["qlognehvi"]["wins"], each["qlognehvi"]["losses"]) for name, each in against.items()
               if "qlognehvi" in each and name not in whole_spaces}  # fmt: skip
    assert botorch == {
        "sret-tiny": (11, 3), "pit-c100": (0, 6), "autoformer-c100": (6, 9), "autoformer-flower": (2, 3),
        "pit-flower": (2, 4), "pit-chaoyang": (5, 0), "autoformer-chaoyang": (2, 0),
    }  # fmt: skip
    halfway, end = (problems["sret-tiny"]["against"][number]["qlognehvi"] for number in ("20", "40"))
    assert (halfway["losses"], round(end["p"], 2)) == (13, 0.12)
    pit = problems["pit-c100"]["strategies"]
    assert round(pit["additive"]["regret"]["50"][0] - pit["qlognehvi"]["regret"]["50"][0], 2) == 0.02
    large = problems["hwgpt-s"]
    for name in ("qlognehvi", "gp-design"):
        for number in ("50", "100", "200"):
            assert (large["against"][number][name]["wins"], large["against"][number][name]["losses"]) == (3, 0)
    for size, number in product("ml", ("50", "100", "200")):
        found = problems[f"hwgpt-{size}"]["against"][number]["gp-design"]
        assert (found["seeds"], found["wins"]) == (1, 1)
    for size, number in product("sml", ("20", "50", "100", "200")):
        found = problems[f"hwgpt-{size}"]["against"][number]["parego"]
        assert (found["seeds"], found["wins"]) == (3, 3)
    taken = [large["strategies"][name]["ms_per_ask"] for name in ("gp-design", "qlognehvi", "additive")]
    assert [round(ms / 1000, 2) for ms in taken] == [1.26, 1.51, 0.04]
    for size, number in product("ml", ("20", "50", "100", "200")):
        beside = problems[f"hwgpt-{size}"]["against"][number]["qlognehvi"]
        assert (beside["wins"], beside["losses"]) == ({"m": 2, "l": 3}[size], 0)
    bench = {number: each["qlognehvi"] for number, each in problems["sret-bench"]["against"].items()}
    assert {number: (each["wins"], each["losses"]) for number, each in bench.items()} == {
        "20": (0, 2), "50": (1, 1), "100": (1, 1), "200": (0, 0),
    }  # fmt: skip
    asking = [problems[name]["strategies"]["qlognehvi"]["ms_per_ask"] for name in botorch]
    assert 480 < min(asking) < max(asking) < 1200
    assert problems["sret-bench"]["against"]["200"]["gp-design"]["losses"] == 0
    optuna = [each["gp-design"] for name, each in against.items() if "gp-design" in each and name in botorch]
    assert (len(optuna), sum(each["wins"] for each in optuna)) == (7, 68)
    seeds = sorted(problems[name]["strategies"]["gp-design"]["seeds"] for name in botorch)
    assert seeds == [10] * 6 + [20]


def test_whole_searches() -> None:
    entries = load("end_to_end")["entries"]
    random, nsga2, scratch, ours, fifth = entries
    volumes = {name: [run["hypervolume"] for run in entry["runs"]] for name, entry in entries.items()}
    errors = {name: 100 * fmean(run["mean_test_error"] for run in entry["runs"]) for name, entry in entries.items()}

    def wins(one: str, other: str) -> int:
        return sum(mine > theirs for mine, theirs in zip(volumes[one], volumes[other], strict=True))

    assert (wins(scratch, random), wins(scratch, nsga2)) == (5, 4)
    assert [round(errors[other] - errors[scratch], 1) for other in (random, nsga2)] == [1.5, 1.0]
    assert (wins(ours, scratch), round(errors[ours] - errors[scratch], 1)) == (2, 0.7)
    assert wins(fifth, random) == wins(fifth, nsga2) == 5
    assert round(errors[fifth] - errors[scratch], 1) == 0.3
    at_most = {name: median(run["recommended"][-1]["test_error"] for run in entry["runs"])
               for name, entry in entries.items()}  # fmt: skip
    assert min(at_most, key=lambda name: at_most[name]) == random
    assert round(100 * (at_most[scratch] - at_most[random]), 1) == 0.1


def test_whole_searches_on_a_slower_machine() -> None:
    entries = load("end_to_end_again")["entries"]
    scratch, ours, both = ([run["hypervolume"] for run in entry["runs"]] for entry in entries.values())
    assert all(mine > theirs for mine, theirs in zip(ours, scratch, strict=True))
    assert all(mine > theirs for mine, theirs in zip(both, scratch, strict=True))
    assert 0 < sum(mine > theirs for mine, theirs in zip(ours, both, strict=True)) < 5
    networks, before = (
        median(run["networks"] for run in load(file)["entries"]["additive, from scratch"]["runs"])
        for file in ("end_to_end_again", "end_to_end")
    )
    assert networks < before / 2
    worst = min(entries["additive, from scratch"]["runs"], key=lambda run: int(run["networks"]))
    assert worst["networks"] == 10
    assert worst["recommended"][:2] == [None, None]
    earlier = load("end_to_end")["entries"]
    pairs = zip(earlier["supernet and additive"]["runs"], earlier["additive, from scratch"]["runs"], strict=True)
    assert 5 + sum(mine["hypervolume"] > theirs["hypervolume"] for mine, theirs in pairs) == 7


def test_early_stopping() -> None:
    entries = load("early_stopping")["entries"]
    ends = ([volumes[-1] for volumes in entries[name]["volumes"]] for name in ("additive, 3 rungs", "additive"))
    assert all(mine > theirs for mine, theirs in zip(*ends, strict=True))


def test_ranking() -> None:
    ranking = load("ranking")
    tau = {(row["variant"], row["seconds"]): row for row in ranking["error"]["supernets"]}
    low, high = tau["leading slices", 120]["tau_interval"]
    assert low < 0 < high  # no better than chance
    assert tau["single", 120]["tau"] > max(tau["alternate", 120]["tau"], tau["sandwich", 120]["tau"])
    assert ranking["error"]["hindsight"]["tau"] >= tau["single", 480]["tau"] > tau["single", 480]["tau_in_widths"]


def test_what_explains_the_recursive_networks() -> None:
    recursion = load("recursion_additivity")
    for models in recursion["cross_entropy"]["labels"].values():
        assert max(models, key=lambda name: models[name]["r2"][1]) == "FLOPs"
    by_labels = recursion["error"]["labels"].values()
    ahead = [models["with pairs"]["r2"][1] > models["FLOPs"]["r2"][1] for models in by_labels]
    assert ahead == [False, False, True, True]


def test_count_flops_is_the_closed_form() -> None:
    for row in load("plain_fvcore")["networks"]:
        assert row["count_flops"] == row["closed_form"] > row["plain_fvcore"]


def test_all_faults_went_as_promised() -> None:
    assert all(row["as_promised"] and row["same_front"] is not False for row in load("faults")["rows"])
