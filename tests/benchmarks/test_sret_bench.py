"""SReT-Bench: the whole of it at tiny sizes, killed and carried on, loaded without torch, and its figures by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.search.sret_bench import sret_bench_problem
from benchmarks.sret_bench import effects, figures, scratch
from benchmarks.sret_bench import run as bench
from benchmarks.sret_bench.chosen import STRUCTURES, from_both_ends
from benchmarks.sret_bench.load import load
from benchmarks.sret_bench.report import progress, report
from benchmarks.sret_bench.setting import Setting, published
from benchmarks.sret_bench.tables import Table
from docs.figures import sret_bench as docs
from sret_nas.arch.budget import Budget
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.space.search_space import SearchSpace
from tests import REPOSITORY
from tests.counted_spaces import shipped
from trials.strategies.create import create_strategy
from trials.strategies.strategy import Candidate

STAGE = {"heads": [2], "blocks": [1], "recursions": [1, 2], "loop": ["internal"], "nll": ["none"], "nll_ratio": [1.0]}
SPACE = SearchSpace.from_dict(
    {
        "name": "tiny",
        "image_size": 224,
        "stages": [
            {**STAGE, "width": [8, 16], "groups": [[4, 1], [1]], "mlp_ratio": [1.0, 2.0]},
            {**STAGE, "width": [16, 32], "groups": [[2, 1], [1]], "mlp_ratio": [1.0, 2.0]},
        ],
    },
    "tiny",
)
TINY = Setting(
    space=SPACE, source="digits", image_size=16, max_images=100, batch_size=16, supernet_images=64,
    num_stratified=14, num_in_window=2, window=(30_000_000, 60_000_000), num_costs=2,
    cost_range=(30_000_000, 60_000_000), lengths=(32, 64), short_lengths=(32,), num_repeated=1,
    precision_images=32, precision_networks=2, score_batch_size=100, checkpoint_seconds=0.0,
)  # fmt: skip


class KilledError(Exception):
    """Stands for the end of the process, at a place where nothing can be tidied up."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a work directory in which everything was run without interruption."""
    work = tmp_path_factory.mktemp("bench")
    bench.run(TINY, work, work / "results")
    return work


def without_seconds(work: Path) -> list[list[dict[str, Any]]]:
    tables = bench.Tables.open(work, work / "results").all
    return [
        [
            {name: value for name, value in line.items() if name != "cpu_seconds"}
            for line in sorted(table.lines, key=table.key_of)
        ]
        for table in tables
    ]


def test_every_piece_is_there_once(whole: Path) -> None:
    inherited, from_scratch, precision = bench.Tables.open(whole, whole / "results").all
    assert inherited.done == {(seed, number) for seed in (0, 1) for number in range(16)}
    networks = [(cost, structure) for cost in (0, 1) for structure in STRUCTURES]
    long = {(64, *network, 0, images) for network in networks for images in (32, 64)}
    short = {(32, *network, 0, 32) for network in networks}
    second = {key for key in from_scratch.done if key[3] == 1}
    assert from_scratch.done - second == long | short
    assert sorted(key[4] for key in second) == [32, 64]
    assert len(precision.done) == 4 * 2
    for table in (inherited, from_scratch, precision):
        assert len(table.lines) == len(table.done)
        assert all(0 <= line["error"] <= 1 for line in table.lines)


def test_best_and_worst_are_so_by_the_model_at_equal_cost(whole: Path) -> None:
    table = bench.Tables.open(whole, whole / "results").scratch
    by_cost: dict[int, dict[str, Any]] = {}
    for network in table.header["networks"]:
        by_cost.setdefault(network["cost_position"], {})[network["structure"]] = network["predicted_error"]
    for predicted in by_cost.values():
        assert predicted["best"] <= predicted["middling"] <= predicted["worst"]
    for line in table.lines:
        assert 0.97 * table.header["costs"][line["cost"]] <= line["flops"] <= table.header["costs"][line["cost"]]


@pytest.mark.slow
def test_killed_and_carried_on_is_as_uninterrupted(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KilledError twice, each time with the beginning of another line at the end of a table."""
    append = Table.append
    written = 0

    def append_and_die(self: Table, line: dict[str, Any]) -> None:
        nonlocal written
        append(self, line)
        written += 1
        if written % 25 == 0:
            raise KilledError

    monkeypatch.setattr(Table, "append", append_and_die)
    monkeypatch.setattr(scratch, "STEPS_AT_ONCE", 1)
    for _ in range(20):
        try:
            bench.run(TINY, tmp_path, tmp_path / "results")
            break
        except KilledError:
            with (tmp_path / "scratch.jsonl").open("a", encoding="utf-8") as torn:
                torn.write('{"schedule_images": 64, "co')
    else:
        pytest.fail("it never came to its end")
    assert without_seconds(tmp_path) == without_seconds(whole)


def test_a_training_goes_on_from_its_checkpoint(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trials.training import checkpoint
    from trials.training.train import Training

    tables = bench.Tables.open(whole, whole / "results")
    (first, *_) = bench.networks_of(TINY, 0, tables)
    training = scratch.Training(first, 0, TINY.lengths)
    data = TINY.prepared(whole / "data")
    save, steps = checkpoint.save_checkpoint, []

    def save_and_die(path: Path, state: Training, identity: dict[str, Any]) -> None:
        save(path, state, identity)
        steps.append(len(state.losses))
        if len(state.losses) == 3:
            raise KilledError

    monkeypatch.setattr(checkpoint, "save_checkpoint", save_and_die)
    monkeypatch.setattr(scratch, "STEPS_AT_ONCE", 1)
    table = Table(tmp_path / "none.gz", tmp_path / "scratch.jsonl", scratch.KEY)
    with pytest.raises(KilledError):
        scratch.run(TINY, training, data, tmp_path, table)
    scratch.run(TINY, training, data, tmp_path, table)
    assert steps == [1, 2, 3, 4]
    expected = {
        line["images"]: line["error"]
        for line in tables.scratch.lines
        if tables.scratch.key_of(line)[:4] == training.key(0)[:4]
    }
    assert {line["images"]: line["error"] for line in table.lines} == expected
    assert not list((tmp_path / "scratch").iterdir())


def test_scores_of_two_supernets_are_never_mixed(whole: Path) -> None:
    tables = bench.Tables.open(whole, whole / "nothing")
    table = tables.inherited
    table.lines = [{**line, "supernet_digest": "another"} for line in table.lines if line["number"] != 3]
    with pytest.raises(ValueError, match="another supernet of seed 0"):
        bench.inherited.fill(TINY, 0, TINY.prepared(whole / "data"), whole, table)


def test_a_supernet_that_has_ended_is_neither_trained_nor_missing(tmp_path: Path) -> None:
    ended = replace(TINY, supernet_images=16, ended={0: 3})
    bench.run(ended, tmp_path, tmp_path / "results", beginning=["supernet"])
    tables = bench.Tables.open(tmp_path, tmp_path / "results")
    assert {line["supernet"] for line in tables.inherited.lines} == {1}
    assert not (tmp_path / "supernet-0").exists()
    assert (tables.scratch.lines, tables.precision.lines) == ([], [])  # pieces of other names
    assert progress(ended, tables)["networks scored with supernet 0"] == [0, 3]


def test_a_published_table_is_loaded_by_the_standard_library_and_carried_on(tmp_path: Path) -> None:
    table = Table(tmp_path / "table.jsonl.gz", tmp_path / "growing.jsonl", ("number",))
    table.begin({"seed": 0})
    for number in (2, 0, 1):
        table.append({"number": number})
    table.publish()
    once = (tmp_path / "table.jsonl.gz").read_bytes()
    assert load(tmp_path / "table.jsonl.gz") == ({"seed": 0}, [{"number": number} for number in range(3)])
    (tmp_path / "growing.jsonl").unlink()
    again = Table(tmp_path / "table.jsonl.gz", tmp_path / "growing.jsonl", ("number",))
    again.begin({"seed": 1})
    assert again.header == {"seed": 0}
    again.publish()
    assert (tmp_path / "table.jsonl.gz").read_bytes() == once
    again.append({"number": 3})
    assert [line["number"] for line in Table(again._published, again._growing, ("number",)).lines] == [0, 1, 2, 3]


def test_a_report_publishes_the_tables_and_what_the_docs_show(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FOLDS": 2, "LABELS": (), "MIN_NETWORKS": 10, "MIN_TRAININGS": 2}.items():
        for module in (figures, effects):
            monkeypatch.setattr(module, name, value, raising=module is figures)
    results = whole / "reported"
    found = report(TINY, whole, results)
    assert {done == number for done, number in found["progress"].values()} == {True}
    assert json.loads((results / "sret_bench.json").read_text()) == found
    assert len(load(results / "sret_bench_inherited.jsonl.gz")[1]) == 32
    monkeypatch.setattr(docs, "load", lambda name: found)
    missing = {name for name, shown in docs.FIGURES.items() if docs.NOT_YET in shown()}
    # Few networks: two in the window, two lengths, and two in other precisions, whose errors may be equal.
    assert not missing & {"sret-bench-effects", "sret-bench-lengths", "sret-bench-progress"}
    empty = report(TINY, whole / "nothing", whole / "empty")
    assert not list((whole / "empty").glob("*.gz"))
    monkeypatch.setattr(docs, "load", lambda name: empty)
    assert {name for name, shown in docs.FIGURES.items() if docs.NOT_YET in shown()} == docs.FIGURES.keys() - {
        "sret-bench-progress"
    }


@pytest.mark.slow
def test_the_table_is_a_problem_for_strategies(tmp_path: Path) -> None:
    drawn = StratifiedSampler(shipped("sret_tiny"), Budget()).sample_many(np.random.default_rng(0), 12)
    table = Table(tmp_path / "table.gz", tmp_path / "growing", ("supernet", "number"))
    table.begin({})
    for number, arch in enumerate(drawn):
        fields = bench.inherited.network_fields(arch)
        table.append({"supernet": 0, "number": number, **fields, "error": 0.3 + 0.01 * number})
        table.append({"supernet": 1, "number": number, **fields, "error": 0.9})
    table.publish()
    problem = sret_bench_problem(tmp_path / "table.gz")
    assert problem.bounds.value == (0.3, 0.41)
    candidate = Candidate(drawn[3], "full")
    assert problem.value(candidate) == pytest.approx(0.33)
    strategy = create_strategy("random", problem.domain, problem.objectives, seed=0, population=4)
    asked = [strategy.ask() for _ in range(12)]
    assert {problem.value(each) for each in asked} == {0.3 + 0.01 * number for number in range(12)}


def test_the_loader_is_ten_lines_of_the_standard_library() -> None:
    source = (REPOSITORY / "benchmarks" / "sret_bench" / "load.py").read_text(encoding="utf-8")
    assert [line for line in source.splitlines() if line.startswith(("import", "from"))] == [
        "import gzip",
        "import json",
    ]


def test_costs_come_from_both_ends() -> None:
    assert from_both_ends(8)[:3] == [0, 7, 3]
    assert sorted(from_both_ends(8)) == list(range(8))
    assert [from_both_ends(number) for number in (1, 2, 3)] == [[0], [0, 1], [0, 2, 1]]


def test_second_seeds_are_spread_over_costs_and_structures() -> None:
    setting = published("digits")
    networks = [(cost, structure) for cost in from_both_ends(8) for structure in STRUCTURES]
    repeated = [training.chosen for training in scratch.repeats(setting, networks)]  # type: ignore[arg-type]
    assert len(set(repeated)) == 6
    assert {structure for _, structure in repeated} == set(STRUCTURES)  # type: ignore[misc]
    assert {0, 7} <= {cost for cost, _ in repeated}  # type: ignore[misc]
