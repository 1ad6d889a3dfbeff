"""What a search was asked to do: defaults that follow from other options, rules between them, and what they mean."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.presets import PRESETS
from sret_nas.errors import ConfigError, UserError
from sret_nas.files import validate
from sret_nas.space.search_space import SearchSpace
from sret_nas.yaml_files import dump_yaml
from trials.data import DataConfig
from trials.runs.option_groups import flag
from trials.runs.options import SearchOptions
from trials.runs.train_options import TrainOptions
from trials.strategies.early_stopping import SuccessiveHalving


def options(**given: Any) -> SearchOptions:
    """Makes options as a command does of what was given: a problem is one line."""
    return validate(SearchOptions, given, "search")


@pytest.mark.parametrize(
    ("given", "trials"), [({}, 200), ({"no_supernet": True}, 16), ({"no_supernet": True, "rungs": 2}, 48)]
)
def test_as_many_trials_as_their_kind_is_worth(given: dict[str, Any], trials: int) -> None:
    assert options(**given).trials == trials


@pytest.mark.parametrize(("trials", "population"), [(1, 4), (19, 4), (20, 5), (40, 10), (80, 20), (1000, 20)])
def test_the_population_is_a_quarter_of_the_trials_within_bounds(trials: int, population: int) -> None:
    assert options(trials=trials).population == population


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (3, 3), (8, 8), (64, 8)])
def test_a_worker_for_each_core_up_to_eight(cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert options().workers == workers
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert options().workers == workers
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert options().workers == 1


@pytest.mark.parametrize(
    ("given", "lookahead"),
    [({"workers": 1}, 4), ({"workers": 4}, 4), ({"workers": 5}, 5),
     ({"workers": 1, "engine": "ray", "ray_address": "auto"}, 4),
     ({"workers": 3, "engine": "ray", "ray_address": "auto"}, 6)],
)  # fmt: skip
def test_as_many_ahead_as_may_run_at_once(given: dict[str, Any], lookahead: int) -> None:
    assert options(**given).lookahead == lookahead


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objectives": ["error", "error"]}, "--objectives must not repeat, got error,error"),
        ({"objectives": []}, "objectives: "),
        ({"objectives": ["flops"]}, "--objectives must name error, cross_entropy or depth_error, got flops: without"),
        *(({"device": name}, f"--device must be auto, cpu, cuda or cuda:NUMBER, got {name!r}")
          for name in ("gpu", "cuda:", "cuda:777", "mycuda", "cpu0", "CPU")),
        ({"gpu_hours": 1.0, "device": "cpu"}, "--gpu-hours goes with a GPU, got --device cpu"),
        ({"data_root": "x"}, "--data-root goes with the name of a torchvision data set"),
        ({"latency_batch": 2}, "--latency-batch goes with --latency-budget, or with latency among the --objectives"),
        *(({"no_supernet": True, name: value}, f"--no-supernet cannot be combined with {flag(name)}")
          for name, value in {"supernet": "x", "supernet_images": 9, "val_images_per_trial": 1, "fine_tune_images": 3,
                              "finalists": 5, "controls": 1}.items()),
        ({"supernet": "x", "supernet_images": 9},
         "--supernet names a trained supernet, so it cannot be combined with --supernet-images"),
        ({"eta": 7}, "--eta goes with --rungs, which must then be at least 2"),
        ({"rungs": 2, "fine_tune_images": 1}, "--rungs cannot be combined with --fine-tune-images"),
        ({"controls": 5}, "--controls must not exceed --finalists, got 5 and 4"),
        ({"epochs": 1.0, "train_images": 9}, "--epochs cannot be combined with --train-images"),
        ({"ray_address": "auto"}, "--ray-address goes with Ray (--engine ray), got --engine local"),
        ({"gpus_per_trial": 0.5}, "--gpus-per-trial goes with Ray (--engine ray), got --engine local"),
        ({"engine": "ray", "workers": 0}, "--workers must be at least 1 with --engine ray, got 0"),
        ({"engine": "tune", "workers": 0}, "--workers must be at least 1 with --engine tune, got 0"),
        ({"engine": "ray", "gpus_per_trial": 1.5},
         "--gpus-per-trial must be a fraction of one GPU or a whole number, got 1.5"),
        ({"engine": "ray", "gpus_per_trial": 0.5, "device": "cpu"},
         "--gpus-per-trial goes with a GPU, got 0.5 and --device cpu"),
        ({"latency_budget": "20"}, "latency_budget: must be a time with its unit"),
        ({"trials": 1, "enqueue": [PRESETS["sret_t"], PRESETS["sret_s"]]},
         "--enqueue names 2 networks for 1 trial: raise --trials"),
        ({"trials": 0}, "trials: must be greater than or equal to 1, got 0"),
        ({"no_such": 1}, "no_such: unknown key"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        options(**given)


@pytest.mark.parametrize(
    ("given", "controls"),
    [
        ({}, 2), ({"finalists": 0}, 0), ({"finalists": 1}, 1), ({"finalists": 2}, 2), ({"finalists": 9}, 2),
        ({"finalists": 9, "controls": 5}, 5), ({"finalists": 9, "rivals": 0}, 0),
    ],
)  # fmt: skip
def test_there_are_as_many_controls_as_asked_for_or_no_more_than_finalists(
    given: dict[str, Any], controls: int
) -> None:
    assert options(**given).controls == controls


def test_a_wrong_number_of_finalists_is_named_and_nothing_else() -> None:
    with pytest.raises(ConfigError, match=r"finalists: must be greater than or equal to 0, got -1$"):
        options(finalists=-1)


@pytest.mark.parametrize(
    "given",
    [
        *({"device": name} for name in ("auto", "cpu", "cuda", "cuda:0", "cuda:15")),
        {"gpu_hours": 1.0},
        {"gpu_hours": 1.0, "device": "cuda"},
        {"data_root": "x", "data": "CIFAR10"},
        {"latency_batch": 2, "latency_budget": "20ms"},
        {"latency_batch": 2, "objectives": ["error", "latency"]},
        {"no_supernet": True, "finalists": 4, "controls": 2},
        {"supernet": "x"},
        {"supernet_images": 9},
        {"eta": 7, "rungs": 2},
        {"fine_tune_images": 1},
        {"controls": 4},
        {"epochs": 1.0},
        {"train_images": 9},
        {"engine": "ray", "gpus_per_trial": 1.0},
        {"engine": "tune", "gpus_per_trial": 1.0, "ray_address": "auto"},
        {"balanced_error": True},
        {"engine": "ray", "gpus_per_trial": 0.5, "device": "cuda"},
        {"engine": "ray", "gpus_per_trial": 3.0},
        {"engine": "local", "workers": 0},
        {"engine": "ray", "workers": 1, "ray_address": "auto"},
    ],
)
def test_what_goes_together_is_taken(given: dict[str, Any]) -> None:
    taken = options(**given).model_dump()
    assert {name: taken[name] for name in given if name != "objectives"} == {
        name: value for name, value in given.items() if name != "objectives"
    }


def test_paths_become_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    (tmp_path / "digits").mkdir()
    (tmp_path / "net.safetensors").touch()
    taken = options(data="images", supernet="net.safetensors", data_root="~/images")
    assert (taken.data, taken.supernet, taken.data_root) == (
        str(tmp_path / "images"), str(tmp_path / "net.safetensors"), str(tmp_path / "images")
    )  # fmt: skip
    assert options(data="CIFAR10").data == "CIFAR10"
    assert options().data == options(data="digits").data == "digits"  # whatever lies here under that name
    assert options(data_root="digits", data="CIFAR10").data_root == str(tmp_path / "digits")


def test_latency_is_spelled_in_one_way_and_in_microseconds() -> None:
    assert [options(latency_budget=text).latency_budget for text in ("0.02s", "20ms", "20000us")] == ["20ms"] * 3
    assert options(latency_budget="1234567us").latency_budget == "1.234567s"
    assert options(latency_budget="20ms").latency_max == 20_000
    assert options().latency_max is None
    with_latency: tuple[dict[str, Any], ...] = ({"latency_budget": "1s"}, {"objectives": ["error", "latency"]})
    assert [options(**given).uses_latency for given in ({}, *with_latency)] == [False, True, True]


def test_the_budget_and_its_description() -> None:
    bounds = {"flops_budget": 4, "params_budget": 3, "flops_min": 2, "params_min": 1}
    assert options(**bounds).budget == Budget(flops_max=4, params_max=3, flops_min=2, params_min=1)
    assert options().describe_budget() == "no budget"
    assert options(flops_budget=10**9).describe_budget() == "FLOPs at most 1G"
    assert options(latency_budget="20ms").describe_budget() == "latency at most 20ms"
    both = options(flops_budget=10**9, latency_budget="20ms")
    assert both.describe_budget() == "FLOPs at most 1G, latency at most 20ms"


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        ({}, None), ({"flops_budget": 4, "params_budget": 3}, ("flops", 4)), ({"params_budget": 3}, ("params", 3)),
        ({"flops_min": 2, "latency_budget": "20ms"}, ("latency", 20_000)),
    ],
)  # fmt: skip
def test_recommendations_are_at_the_first_cost_that_has_an_upper_bound(
    given: dict[str, Any], bound: tuple[str, int] | None
) -> None:
    assert options(**given).upper_bound == bound


def test_a_space_is_loaded_for_the_target_and_for_how_it_is_trained() -> None:
    inherited, scratch = options(space="smoke"), options(space="smoke", no_supernet=True)
    assert scratch.load_space().depth_schedules == ("full", "joint")
    assert inherited.load_space().depth_schedules == ("full",)
    changed = options(space="smoke", target_image_size=64, target_classes=7, no_supernet=True).load_space()
    assert (changed.image_size, changed.classes, changed.depth_schedules) == (64, 7, ("full", "joint"))
    assert (scratch.load_space().image_size, scratch.load_space().classes) == (224, 1000)


def test_a_space_that_its_target_makes_impossible_is_named(tmp_path: Path) -> None:
    """At 16 px the last stage has one token, which class tokens always see; at 224 px its slices hide some."""
    smoke = SearchSpace.load("smoke").to_dict()
    smoke["stages"][-1]["groups"] = [[4, 2]]
    file = tmp_path / "small.yaml"
    file.write_text(dump_yaml({**smoke, "name": "small", "image_size": 16, "head": ["average", "class_token"]}))
    assert options(space=str(file)).load_space().image_size == 16
    with pytest.raises(ConfigError, match=rf"{re.escape(str(file))}: head\[1\]: class_token is in no legal network"):
        options(space=str(file), target_image_size=224).load_space()


def test_depths_that_are_scored_are_trained(tmp_path: Path) -> None:
    """With a supernet every depth is trained; from scratch the space's schedules decide."""
    shallow = options(space="smoke", no_supernet=True, objectives=["depth_error", "flops"])
    assert shallow.scores_depths
    assert shallow.load_space().depth_schedules == ("full", "joint")
    assert not options(space="smoke").scores_depths
    file = tmp_path / "deep.yaml"
    file.write_text(dump_yaml({**SearchSpace.load("smoke").to_dict(), "name": "deep", "depth_schedules": ["full"]}))
    message = r"deep has depth_schedules: \[full\]: add another one, such as joint"
    with pytest.raises(UserError, match=message):
        options(space=str(file), no_supernet=True, objectives=["depth_error", "flops"]).load_space()
    options(space=str(file), no_supernet=True).load_space()
    options(space=str(file), objectives=["depth_error", "flops"]).load_space()


def test_the_data_asked_for() -> None:
    asked = {"data": "CIFAR10", "data_root": "r", "image_size": 32, "split_seed": 3, "max_train": 30, "max_val": 20,
             "max_test": 10}  # fmt: skip
    assert options(**asked).data_config == DataConfig(**{
        "source": "CIFAR10", **{name.removeprefix("data_"): value for name, value in asked.items() if name != "data"}
    })  # fmt: skip


@pytest.mark.parametrize(
    ("given", "images"),
    [({}, 3000), ({"epochs": 0.5}, 500), ({"epochs": 100.0}, 100_000), ({"train_images": 77}, 77),
     ({"epochs": 1e-6}, 2)],
)  # fmt: skip
def test_how_long_a_trial_trains(given: dict[str, Any], images: int) -> None:
    proxy = options(batch_size=5, learning_rate=0.5, image_size=48, width_scale=0.5, **given).proxy(1000)
    assert (proxy.training.images, proxy.training.batch_size, proxy.training.learning_rate) == (images, 5, 0.5)
    assert (proxy.image_size, proxy.width_scale) == (48, 0.5)


def test_long_trainings_are_bounded_unless_asked_for() -> None:
    assert options().proxy(10**6).training.images == 16_000
    assert [options().supernet_training(number).images for number in (1, 1000, 10**6)] == [20, 20_000, 200_000]
    asked = options(supernet_images=3_000_000, batch_size=5, learning_rate=0.5).supernet_training(10)
    assert (asked.images, asked.batch_size, asked.learning_rate) == (3_000_000, 5, 0.5)


def test_training_on_is_gentler() -> None:
    tuned = options(batch_size=5, learning_rate=0.5).fine_tuning(90)
    assert (tuned.images, tuned.batch_size, tuned.learning_rate) == (90, 5, 0.125)
    assert options().fine_tuning(1).images == 2


def test_rungs_are_as_asked_for() -> None:
    assert options(rungs=3, eta=2).make_rungs().fractions == SuccessiveHalving(3, 2).fractions
    assert options().make_rungs().fractions == (1.0,)


def test_a_resumed_search_changes_what_it_may_and_nothing_else() -> None:
    begun = options(trials=10, workers=2, flops_budget=5)
    new = {"trials": 20, "workers": 3, "engine": "ray", "ray_address": "auto", "gpus_per_trial": 1.0,
           "trial_timeout": 9.0, "time_budget": 8.0, "gpu_hours": 7.0, "storage": "/copies",
           "log": ("wandb",)}  # fmt: skip
    changed = begun.resumed_with(new)
    assert {name: getattr(changed, name) for name in new} == new
    assert changed.model_dump(exclude=set(new)) == begun.model_dump(exclude=set(new))
    assert begun.resumed_with({"seed": 0, "flops_budget": 5}) == begun
    assert begun.resumed_with({}).population == begun.population
    for given, told in (
        ({"flops_budget": 6}, "--flops-budget cannot change in a resumed search: it was 5, got 6; "),
        (
            {"val_images_per_trial": 6},
            "--val-images-per-trial cannot change in a resumed search: it was not given, got 6; ",
        ),
        ({"objectives": ["error"]}, "--objectives cannot change in a resumed search: it was error,flops, got error; "),
    ):
        with pytest.raises(UserError, match=f"^{re.escape(told)}leave it out, or start a new search$"):
            begun.resumed_with(given)
    with pytest.raises(ConfigError, match=r"^search: --trials: must be greater than or equal to 1, got 0$"):
        begun.resumed_with({"trials": 0})


def test_images_and_soft_labels_may_lie_elsewhere_when_a_search_is_resumed(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "labels").touch()
    begun = options(data=str(here), soft_labels=str(here / "labels"))
    moved = begun.resumed_with({"data": str(there), "soft_labels": str(there / "labels")})
    assert (moved.data, moved.soft_labels) == (str(there), str(there / "labels"))
    named = options(data="CIFAR10", data_root=str(here))
    assert named.resumed_with({"data_root": str(there)}).data_root == str(there)
    assert named.resumed_with({"data": str(there)}).data_root is None  # now the images lie in a folder
    with pytest.raises(UserError, match=r"^--soft-labels cannot change in a resumed search: it was not given, got "):
        named.resumed_with({"soft_labels": str(there / "labels")})


@pytest.mark.parametrize(("images", "share"), [(3_237, 0.3), (32_000, 0.2), (1_000_000, 0.1)])
def test_finalists_and_controls_from_scratch_warm_up_for_100_steps_or_three_tenths(images: int, share: float) -> None:
    training = options(batch_size=64).control_training(images)
    assert training.warmup_share == pytest.approx(share)
    assert training.model_copy(update={"warmup_share": 0.1}) == options(batch_size=64).training(images)


def test_train_takes_the_supernet_of_a_run_by_its_directory(tmp_path: Path) -> None:
    given = {"architecture": "sret_t", "supernet": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"there is no trained supernet in this directory"):
        validate(TrainOptions, given, "train")
    (tmp_path / "supernet").mkdir()
    (tmp_path / "supernet" / "supernet.safetensors").touch()
    assert validate(TrainOptions, given, "train").supernet == str(tmp_path / "supernet" / "supernet.safetensors")
