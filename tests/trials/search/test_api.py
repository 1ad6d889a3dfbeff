"""Options of the Python call: what the command line takes as text, and what Python has as values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli import create_parser
from sret_nas.arch.presets import PRESETS
from sret_nas.errors import UserError
from sret_nas.space.search_space import SearchSpace
from sret_nas.yaml_files import dump_yaml
from trials.search import api
from trials.search.api import SearchResult, search

ARCH = PRESETS["sret_t"]


class SearchBegunError(Exception):
    """A search would begin, with these options."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Any:
    def begin(options: Any, run_dir: Path, command: list[str], console: Any) -> None:
        raise SearchBegunError(options, command)

    monkeypatch.setattr(api, "start_search", begin)

    def options_of(**given: Any) -> tuple[Any, list[str]]:
        with pytest.raises(SearchBegunError) as caught:
            search(quiet=True, **given)
        options, command = caught.value.args
        return options, command

    return options_of


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"flops_budget": "1G"}, "flops_budget", 10**9),
        ({"flops_budget": 1e9}, "flops_budget", 10**9),
        ({"flops_budget": np.int64(10**9)}, "flops_budget", 10**9),
        ({"flops_budget": np.float32(2**30)}, "flops_budget", 2**30),
        ({"time_budget": "1h30m"}, "time_budget", 5400.0),
        ({"trial_timeout": "10m"}, "trial_timeout", 600.0),
        ({"objectives": "error, params"}, "objectives", ("error", "params")),
        ({"objectives": ["error", "params"]}, "objectives", ("error", "params")),
        ({"log": "mlflow"}, "log", ("mlflow",)),
        ({"enqueue": ARCH}, "enqueue", (ARCH,)),
        ({"enqueue": [ARCH]}, "enqueue", (ARCH,)),
        ({"data": Path("photos")}, "data", "photos"),
        ({"trials": np.int64(30)}, "trials", 30),
        ({"learning_rate": np.float64(0.5)}, "learning_rate", 0.5),
        ({"no_supernet": np.bool_(True)}, "no_supernet", True),
        ({"objectives": np.array(["error", "params"])}, "objectives", ("error", "params")),
    ],
)
def test_values_are_as_typed_or_as_python_has_them(given: dict[str, Any], name: str, value: Any, begun: Any) -> None:
    options, _ = begun(**given)
    assert getattr(options, name) == value


def test_the_recorded_command_means_the_same(begun: Any, tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_text(dump_yaml(ARCH.to_dict()))
    options, command = begun(
        flops_budget="1G", time_budget="2h", objectives=("error", "params"), enqueue=[file], no_supernet=True
    )
    typed = vars(create_parser().parse_args(command[1:]))
    assert typed["time_budget"] == options.time_budget == 7200.0
    assert typed["enqueue"] == [options.enqueue[0].to_dict()]
    assert (typed["flops_budget"], tuple(typed["objectives"])) == (options.flops_budget, options.objectives)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"flops_budget": "much"}, "^--flops-budget: must be a number such as 1G"),
        ({"flops_budget": 1.5}, "^--flops-budget: must be a whole number, got 1.5"),
        ({"flops_budget": np.float32(1.5)}, "^--flops-budget: must be a whole number, got 1.5"),
        ({"time_budget": "soon"}, "^--time-budget: must be a time such as 90s"),
        ({"enqueue": "nofile.yaml"}, "^--enqueue: nofile.yaml: there is no such file"),
        ({"objectives": "error,speed"}, "--objectives"),
        ({"dry_run": True}, "dry_run: unknown key"),
        ({"space": SearchSpace.load("smoke")}, "^--space: must be the name of a shipped space or a YAML file, got "),
        ({"space": {"name": "mine"}}, "^--space: must be the name of a shipped space or a YAML file, got "),
        ({"out": 3}, "^out must be a path, got 3"),
        ({"resume": 3}, "^resume must be a path, got 3"),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        search(quiet=True, **given)


@pytest.mark.parametrize("value", [True, [1], {}])
def test_a_budget_that_is_no_number_is_refused(value: Any, begun: Any) -> None:
    with pytest.raises(UserError, match=r"^--flops-budget: must be a number such as 1G, got "):
        search(flops_budget=value, quiet=True)


def test_a_budget_of_numpy_is_recorded_as_a_number(begun: Any) -> None:
    _, command = begun(flops_budget=np.int64(10**9), trials=7)
    assert command == ["sret-nas", "search", "--flops-budget", "1000000000", "--trials", "7"]


def test_a_run_directory_in_the_home_folder_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def begin(options: Any, run_dir: Path, command: list[str], console: Any) -> None:
        raise SearchBegunError(run_dir)

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(api, "start_search", begin)
    with pytest.raises(SearchBegunError, match=re.escape(str(tmp_path / "runs" / "mine"))):
        search(out="~/runs/mine", quiet=True)


def test_results_are_opened_by_a_path() -> None:
    with pytest.raises(UserError, match=r"^the run directory must be a path, got None"):
        SearchResult.open(None)  # type: ignore[arg-type]


def test_a_resumed_search_stays_in_its_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def begin(run_dir: Path, given: Any, console: Any) -> None:
        raise SearchBegunError(run_dir)

    monkeypatch.setattr(api, "resume_search", begin)
    run_dir, other = tmp_path / "run", tmp_path / "other"
    for out in (None, run_dir, str(run_dir / ".")):
        with pytest.raises(SearchBegunError, match=re.escape(str(run_dir))):
            search(resume=str(run_dir), out=out, quiet=True)
    with pytest.raises(UserError, match=r"stays in its run directory: leave out --out, or give --resume .*other"):
        search(resume=run_dir, out=other, quiet=True)
