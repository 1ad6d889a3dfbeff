"""The groups that commands compose their options from: defaults, checks, and what counts as given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sret_nas.arch.budget import Budget
from sret_nas.errors import ConfigError, UserError
from sret_nas.plurals import counted
from trials.runs.engine_options import ComputeOptions, EngineOptions
from trials.runs.option_groups import (
    BudgetOptions,
    DataOptions,
    ProxyRunOptions,
    TargetOptions,
    absolute_if_there,
    absolute_supernet_file,
    flag,
)
from trials.runs.options import SearchOptions
from trials.runs.supernet_train_options import SupernetTrainOptions


def test_a_command_composes_the_groups_that_it_needs() -> None:
    class Options(TargetOptions, DataOptions, ComputeOptions):
        out: str = "here"

    options = Options.parse({"space": "smoke", "seed": 3}, "command")
    assert options.model_dump() == {
        **ComputeOptions(seed=3).model_dump(),
        **DataOptions().model_dump(),
        **TargetOptions(space="smoke").model_dump(),
        "out": "here",
    }
    with pytest.raises(ConfigError, match=r"^command: --data-root goes with .* which --data must give$"):
        Options.parse({"data_root": "/somewhere"}, "command")
    with pytest.raises(ConfigError, match=r"^command: --device must be auto, cpu, cuda or cuda:NUMBER, got 'tpu'$"):
        Options.parse({"device": "tpu"}, "command")
    with pytest.raises(ConfigError, match=r"^command: flops_budget: unknown key"):
        Options.parse({"flops_budget": 10}, "command")


def test_a_training_of_a_supernet_has_no_options_of_a_search_alone() -> None:
    assert SupernetTrainOptions.model_fields.keys() < SearchOptions.model_fields.keys()
    assert not SupernetTrainOptions.model_fields.keys() & {"trials", "epochs", "finalists", "workers", "no_supernet"}


def test_the_schedule_is_no_choice_where_one_training_serves_all() -> None:
    assert len(TargetOptions().load_space().depth_schedules) == 5
    assert SupernetTrainOptions().load_space() == TargetOptions().load_space_at_full_depth()
    space = SupernetTrainOptions(target_image_size=64, target_classes=7).load_space()
    assert (space.depth_schedules, space.image_size, space.classes) == (("full",), 64, 7)


def test_what_a_space_leaves_to_the_images_stays_open_where_the_target_changes_something_else() -> None:
    space = TargetOptions(target_image_size=64).load_space()
    assert space.image_size == 64
    assert not {"classes", "channels"} & space.model_fields_set


def test_a_proxy_run_is_as_long_as_was_asked_for() -> None:
    def images(options: ProxyRunOptions) -> int:
        return options.proxy(1000).training.images

    assert images(ProxyRunOptions()) == 3000
    assert ProxyRunOptions().proxy(10**6).training.images == 16_000
    assert images(ProxyRunOptions(epochs=0.25)) == 250
    assert images(ProxyRunOptions(train_images=70)) == 70
    assert SupernetTrainOptions().supernet_training(1000).images == 20_000
    assert SupernetTrainOptions().supernet_training(10**6).images == 200_000
    assert SupernetTrainOptions(supernet_images=70).supernet_training(1000).images == 70


def test_a_folder_is_named_so_that_it_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert DataOptions(data="images").data == str(tmp_path / "images")
    assert DataOptions(data="CIFAR10", data_root="images").data_root == str(tmp_path / "images")
    assert DataOptions(data="CIFAR10").data == "CIFAR10"
    assert DataOptions(data="digits").data == "digits"
    (tmp_path / "images" / "supernet").mkdir()
    for name in ("supernet/supernet.safetensors", "supernet.safetensors"):
        with pytest.raises(
            ConfigError, match=r"--supernet: images: there is no trained supernet in this directory, nei"
        ):
            SearchOptions.parse({"supernet": "images"}, "search")
        file = tmp_path / "images" / name
        file.touch()
        assert (
            SearchOptions(supernet="images").supernet == SearchOptions(supernet=f"images/{name}").supernet == str(file)
        )
        file.unlink()


def test_budgets_bound_what_they_are_named_for() -> None:
    options = BudgetOptions(flops_budget=4, params_budget=3, flops_min=2, params_min=1, shallowest_flops_budget=5)
    assert options.budget == Budget(flops_max=4, params_max=3, flops_min=2, params_min=1, shallowest_flops_max=5)


def test_what_is_given_now_is_checked_with_what_was_recorded() -> None:
    recorded = BudgetOptions(flops_budget=4)
    with pytest.raises(ConfigError, match=r"^records: --flops-min: must be .* got -1$"):
        recorded.with_given({"flops_min": -1}, "records")
    on = recorded.with_given({"flops_min": 2}, "records")
    assert (on.flops_budget, on.flops_min, on.model_fields_set) == (4, 2, {"flops_min"})


@pytest.mark.parametrize(
    ("name", "typed"), [("ray_address", "--ray-address"), ("trials", "--trials"), ("no_supernet", "--no-supernet")]
)
def test_messages_name_options_as_they_are_typed(name: str, typed: str) -> None:
    assert flag(name) == typed


def test_a_cluster_is_used_whole_unless_workers_were_given() -> None:
    cluster = {"engine": "ray", "ray_address": "auto"}
    whole = EngineOptions.parse(cluster, "search")
    assert whole.uses_whole_cluster
    assert not EngineOptions.parse({**cluster, "workers": whole.workers}, "search").uses_whole_cluster
    assert not EngineOptions.parse({"engine": "ray"}, "search").uses_whole_cluster
    known = whole.with_workers(30, "search")
    assert (known.workers, known.lookahead, known.uses_whole_cluster) == (30, 60, True)
    assert EngineOptions.parse({**cluster, "lookahead": 7}, "search").with_workers(30, "search").lookahead == 7


@pytest.mark.parametrize(
    ("given", "num_jobs", "workers", "threads", "is_told"),
    [
        ({}, 200, 8, 1, False),
        ({}, 3, 3, 1, False),
        ({"workers": 0}, 8, 0, 1, False),
        ({"workers": 5}, 8, 4, 1, True),  # by the lookahead
        ({"workers": 64}, 8, 8, 1, True),
        ({"workers": 64}, 200, 8, 1, True),
        ({"workers": 2, "threads": 4}, 200, 2, 4, False),
        ({"workers": 4, "threads": 4}, 200, 2, 4, True),
        ({"workers": 4, "threads": 1024}, 200, 1, 8, True),
        ({"workers": 64, "engine": "ray"}, 200, 8, 1, True),
        ({"workers": 64, "engine": "ray", "ray_address": "auto"}, 200, 64, 1, False),
        ({"workers": 64, "engine": "ray", "ray_address": "auto", "threads": 16}, 9, 9, 16, True),
    ],
)
def test_no_more_is_used_than_there_are_jobs_and_cores(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], num_jobs: int, workers: int, threads: int, is_told: bool
) -> None:
    """What was asked for stays on record, and the lookahead, on which a search depends, as it was."""
    monkeypatch.setattr("trials.runs.engine_options.num_cores", lambda: 8)
    lookahead = {"lookahead": 4} if given.get("workers") == 5 else {}
    options = EngineOptions.parse({**given, **lookahead}, "search")
    assert (options.usable_workers(num_jobs), options.usable_threads) == (workers, threads)
    line = options.describe_unused(num_jobs)
    assert (line is not None) is is_told
    if line is not None:
        asked = f"{counted(options.workers, 'worker')} with {counted(options.threads, 'thread')} each"
        cores = "" if "ray_address" in given else "8 cores, "
        assert line.startswith(f"note: {asked} are more than can be used ({cores}at most ")
        assert line.endswith(f"trials at once): workers {workers}, threads {threads}")
    assert options.workers == given.get("workers", 8)


def test_of_a_resumed_search_only_the_options_of_this_session_count_as_given() -> None:
    begun = SearchOptions.parse({"engine": "ray", "ray_address": "auto"}, "search").with_workers(3, "search")
    recorded = SearchOptions.recorded(begun.model_dump(mode="json"), "records", limits_cluster=begun.limits_cluster)
    on = recorded.resumed_with({"trials": 9})
    assert (on.trials, on.workers, on.lookahead) == (9, 3, 6)
    assert on.model_fields_set == {"trials"}
    assert on.uses_whole_cluster
    assert not recorded.resumed_with({"workers": 3}).uses_whole_cluster
    assert on.model_dump() == {**begun.model_dump(), "trials": 9}
    with pytest.raises(ConfigError, match=r"^records: --trials: must be "):
        recorded.with_given({"trials": 0}, "records")


def test_workers_that_bound_a_cluster_bound_it_in_all_sessions() -> None:
    cluster = {"engine": "ray", "ray_address": "auto"}
    options = SearchOptions.parse({**cluster, "workers": 3}, "search")
    for given, workers in (({"trials": 9}, 3), ({"ray_address": "other:1"}, 3), ({"workers": 5}, 5), ({}, 5)):
        plain = options.model_dump(mode="json")
        options = SearchOptions.recorded(plain, "records", limits_cluster=options.limits_cluster).resumed_with(given)
        assert (options.workers, options.uses_whole_cluster) == (workers, False)
    here = SearchOptions.recorded(options.model_dump(mode="json"), "records", limits_cluster=True)
    assert not here.resumed_with({"engine": "local"}).limits_cluster
    local = SearchOptions.parse({"workers": 2}, "search")
    moved = SearchOptions.recorded(local.model_dump(mode="json"), "records", limits_cluster=local.limits_cluster)
    assert moved.resumed_with(cluster).uses_whole_cluster


def test_options_that_were_recorded_under_their_old_names_are_read() -> None:
    old = {
        "from_scratch": False, "score_images": 40, "rivals": 1, "max_train": 300, "max_val": 200, "max_test": 100,
    }  # fmt: skip
    new = {
        "no_supernet": False, "val_images_per_trial": 40, "controls": 1, "max_train_images": 300,
        "max_val_images": 200, "max_test_images": 100,
    }  # fmt: skip
    recorded = SearchOptions().model_dump(mode="json")
    assert recorded.keys() >= new.keys()
    before = {name: value for name, value in recorded.items() if name not in new}
    options = SearchOptions.parse({**before, **old}, "records")
    assert options == SearchOptions.parse({**before, **new}, "records")
    assert options.model_dump(mode="json") == {**recorded, **new}
    resumed = options.resumed_with({"trials": 9, "controls": 1})
    assert (resumed.controls, resumed.model_fields_set) == (1, {"trials", "controls"})
    with pytest.raises(UserError, match=r"^--controls cannot change in a resumed search: it was 1, got 2;"):
        options.resumed_with({"controls": 2})


def test_a_torchvision_dataset_may_lie_in_a_folder_when_a_search_is_resumed(tmp_path: Path) -> None:
    recorded = SearchOptions(data="CIFAR10", data_root=str(tmp_path))
    moved = recorded.resumed_with({"data_root": "/elsewhere"})
    assert (moved.data, moved.data_root) == ("CIFAR10", "/elsewhere")
    folder = recorded.resumed_with({"data": str(tmp_path)})
    assert (folder.data, folder.data_root) == (str(tmp_path), None)


def test_a_resumed_search_changes_only_what_may_change() -> None:
    recorded = SearchOptions(seed=1)
    assert recorded.resumed_with({"seed": 1}) == recorded
    with pytest.raises(UserError, match=r"^--seed cannot change in a resumed search: it was 1, got 2; leave it out"):
        recorded.resumed_with({"seed": 2})
    with pytest.raises(UserError, match=r"^--no-supernet cannot change in a resumed search: it was False, got True"):
        recorded.resumed_with({"no_supernet": True})
    with pytest.raises(ConfigError, match=r"^search: --trials: must be greater than or equal to 1, got 0$"):
        recorded.resumed_with({"trials": 0})


def test_a_run_that_was_begun_on_a_cluster_can_be_resumed_on_this_machine() -> None:
    begun = EngineOptions.parse({"engine": "ray", "ray_address": "auto", "gpus_per_trial": 0.5}, "test")
    resumed = begun.with_given({"engine": "local"}, "test")
    assert (resumed.engine, resumed.ray_address, resumed.gpus_per_trial) == ("local", None, 0.0)
    assert resumed.model_fields_set == {"engine"}
    with pytest.raises(ConfigError, match="--ray-address goes with Ray"):
        begun.with_given({"engine": "local", "ray_address": "auto"}, "test")
    assert begun.with_given({"workers": 3}, "test").ray_address == "auto"


@pytest.mark.parametrize("of", [absolute_if_there, absolute_supernet_file])
def test_a_path_that_is_not_utf_8_is_refused(of: Callable[[str], str]) -> None:
    """Records could not hold it: no later command would read them."""
    with pytest.raises(ValueError, match=r"must be a name in UTF-8, got 'B\\udcfccher': rename it"):
        of(os.fsdecode(b"B\xfccher"))
