"""`landscape`, from the command line: its losses, its record, what stops it, and what it refuses."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console

from cli import main
from sret_nas.arch.config import ArchConfig
from sret_nas.nn.directions import filter_normalised_direction
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, write_model
from sret_nas.nn.network import SReT
from trials.engines.file_transfer import BundleWriter
from trials.engines.jobs import LandscapeJob, WeightsSource
from trials.report.landscape import landscapes_of, short_names, show_landscapes
from trials.report.landscape_pictures import _scale, _ticks
from trials.runs.directory import LANDSCAPE_FILE
from trials.runs.landscape_options import LandscapeOptions
from trials.runs.landscape_records import IMAGES, NETWORKS, LandscapeRecords
from trials.training.full_recipe import Recipe
from trials.training.landscape_images import LandscapeImages
from trials.worker.entry import JobRunner
from trials.workflows.landscape import resume_landscape, start_landscape

CLASSES = ("ant", "bee", "cow")
PER_CLASS = 5
ARCH = ArchConfig.from_dict(
    {
        "stages": [{"width": 8, "heads": 2, "blocks": 1, "recursions": 2, "groups": [2, 2]}],
        "image_size": 16,
        "channels": 3,
        "classes": len(CLASSES),
        "drop_path": 0.5,
    }
)
PREPROCESSING = Preprocessing(image_size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop_fraction=0.8)
RECIPE = Recipe.load("small", {"mixup": 0.2, "weight_decay": 0.1})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for part, name in itertools.product(("train", "test"), CLASSES):
        (folder / part / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


def make_model(folder: Path, seed: int = 0, recipe: Recipe | None = RECIPE) -> Path:
    """Writes a network with random weights, large enough that its losses vary."""
    torch.manual_seed(seed)
    network = SReT(ARCH).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)
    written = None if recipe is None else recipe.model_dump(mode="json")
    write_model(folder, network, ModelInfo(preprocessing=PREPROCESSING, class_names=CLASSES, recipe=written))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "one")


QUICK = ("--images", "9", "--points", "3", "--pairs", "1", "--surfaces", "0", "--workers", "0", "--batch-size", "4")


def landscape(*arguments: object) -> int:
    return main(["landscape", *map(str, arguments)])


def result_of(out: Path, *arguments: object) -> dict[str, Any]:
    """Returns the JSON of a landscape that succeeds."""
    assert landscape(*arguments, "--out", out) == 0
    result: dict[str, Any] = json.loads((out / "landscape.json").read_text())
    return result


@pytest.mark.slow
def test_the_network_itself_has_the_loss_that_evaluate_states(model: Path, data: Path, tmp_path: Path) -> None:
    result = result_of(tmp_path / "out", model, "--data", data, "--part", "test", *QUICK, "--images", 100)
    scores = tmp_path / "scores.json"
    assert main(["evaluate", str(model), "--data", str(data), "--json", str(scores), "--no-latency"]) == 0
    deepest = json.loads(scores.read_text())["depths"][-1]
    plain, training = result["landscapes"]
    assert (plain["loss"], training["loss"]) == ("plain", "training")
    assert plain["centre"] == pytest.approx(deepest["cross_entropy"], rel=1e-5)
    assert result["networks"][0]["num_images"] == {"plain": 15, "augmented": 12}
    assert "Biases, norms and one-dimensional residual coefficients stay still" in result["caption"]


@pytest.mark.slow
def test_points_lie_on_the_directions_and_the_training_loss_has_weight_decay(
    model: Path, data: Path, tmp_path: Path
) -> None:
    surface = ("--pairs", "1", "--surfaces", "1", "--span", "0.5")
    result = result_of(tmp_path / "out", model, "--data", data, *QUICK, *surface, "--seed", 3)
    assert result["coordinates"] == [-0.5, 0.0, 0.5]
    assert result["networks"][0]["num_images"] == {"plain": 9, "augmented": 8}  # mixup needs pairs
    network, images = SReT.from_pretrained(model).eval(), _images(model, data, tmp_path)
    first, second = (filter_normalised_direction(network, f"landscape 3/0/{axis}") for axis in (0, 1))
    moved = dict(network.named_parameters())
    with torch.no_grad():
        for name, direction in first.items():
            moved[name] += 0.5 * direction - 0.5 * second[name]
        for kind, number in (("plain", 0), ("augmented", 1)):
            inputs, targets = next(images.batches(kind, 100))
            expected = float(F.cross_entropy(network(inputs), targets))
            if kind == "augmented":
                decayed = [p for name, p in moved.items() if p.ndim >= 2 and name != "pos_embed"]
                expected += 0.05 * sum(float(parameter.square().sum()) for parameter in decayed)
            pair = result["landscapes"][number]["pairs"][0]
            assert pair["surface"][0][2] == pytest.approx(expected, rel=1e-4)  # a row is one value of y
            assert [row[1] for row in pair["surface"]] == pair["second"]
            assert pair["surface"][1] == pair["first"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "landscape.json", LANDSCAPE_FILE, "profiles.png", "contours.png", "surfaces.png",
    }  # fmt: skip


def _images(model: Path, data: Path, tmp_path: Path) -> LandscapeImages:
    """Returns the images of the landscape above, prepared once more and stopped before any point."""
    out = tmp_path / "once more"
    options = LandscapeOptions.parse({"data": str(data), "images": 9, "workers": 0, "seed": 3}, "test")

    def stop(payload: dict[str, Any]) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_landscape(options, [model], out, stop, Console(quiet=True))
    with LandscapeRecords(out) as records:
        network = records.header.networks[0]
    return LandscapeImages.open(out / network.images, network.images_digest)


@pytest.mark.slow
def test_a_seed_decides_directions_and_augmentation(model: Path, data: Path, tmp_path: Path) -> None:
    results = [
        result_of(tmp_path / str(number), model, "--data", data, *QUICK, "--seed", seed)["landscapes"]
        for number, seed in enumerate((1, 1, 2))
    ]
    assert results[0] == results[1]
    assert results[0][0]["centre"] == results[2][0]["centre"]
    assert results[0][0]["pairs"] != results[2][0]["pairs"]
    assert results[0][1]["centre"] != results[2][1]["centre"]


@pytest.mark.slow
def test_statistics_of_the_stem_can_be_found_anew(model: Path, data: Path, tmp_path: Path) -> None:
    kept, renewed = (
        result_of(tmp_path / kind, model, "--data", data, *QUICK, "--loss", "plain", "--stem-statistics", kind)
        for kind in ("kept", "renewed")
    )
    assert "statistics are found anew at every point" in renewed["caption"]
    assert kept["landscapes"][0]["pairs"] != renewed["landscapes"][0]["pairs"]


@pytest.mark.slow
def test_a_shallower_depth_has_a_landscape_of_its_own(model: Path, data: Path, tmp_path: Path) -> None:
    arguments = (model, "--data", data, *QUICK, "--loss", "plain")
    deep, shallow = (
        result_of(tmp_path / recursions, *arguments, "--recursions", recursions) for recursions in ("2", "1")
    )
    assert [result["networks"][0]["recursions"] for result in (deep, shallow)] == [[2], [1]]
    assert deep["landscapes"][0]["centre"] != shallow["landscapes"][0]["centre"]


@pytest.mark.slow
def test_an_interrupted_landscape_is_resumed_with_nothing_lost_and_nothing_done_twice(
    model: Path, data: Path, tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other", seed=1)
    arguments = ("--data", str(data), *QUICK, "--pairs", "2", "--surfaces", "1", "--loss", "plain")
    whole = result_of(tmp_path / "whole", model, other, *arguments)
    out, run, computed = tmp_path / "out", JobRunner(), Counter[tuple[str, tuple[str, str], float, float]]()
    data_options = {
        "data": str(data),
        "images": 9,
        "points": 3,
        "pairs": 2,
        "workers": 0,
        "batch_size": 4,
        "loss": "plain",
    }

    def run_some(payload: dict[str, Any]) -> dict[str, Any]:
        if computed.total() == 6:
            raise KeyboardInterrupt
        return count(payload)

    def count(payload: dict[str, Any]) -> dict[str, Any]:
        computed[payload["network"]["path"], tuple(payload["directions"]), payload["x"], payload["y"]] += 1
        return run(payload)

    with pytest.raises(KeyboardInterrupt):
        start_landscape(
            LandscapeOptions.parse(data_options, "test"), [model, other], out, run_some, Console(quiet=True)
        )
    with (out / LANDSCAPE_FILE).open("ab") as file:
        file.write(b'{"event": "point", "network": 0,')  # a kill in the middle of a line
    (out / IMAGES / "notes.txt").write_text("dear")
    resume_landscape(out, {"workers": 0}, count, Console(quiet=True))
    assert set(computed.values()) == {1}
    assert computed.total() == 2 * (1 + 2 * 4 + 4)
    resumed = json.loads((out / "landscape.json").read_text())
    assert resumed["landscapes"] == whole["landscapes"]
    assert not (out / NETWORKS).exists()
    assert [path.name for path in (out / IMAGES).iterdir()] == ["notes.txt"]
    (out / "landscape.json").unlink()
    assert landscape("--resume", out) == 0  # a whole one is only written again
    assert json.loads((out / "landscape.json").read_text()) == resumed


@pytest.mark.slow
def test_a_network_without_a_recipe_has_its_plain_loss_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", recipe=None)
    result = result_of(tmp_path / "out", model, "--data", data, *QUICK)
    assert [one["loss"] for one in result["landscapes"]] == ["plain"]
    assert "does not say how it was trained, so only its plain loss" in capsys.readouterr().out
    given = result_of(tmp_path / "given", model, "--data", data, *QUICK, "--recipe", "small", "--loss", "training")
    assert given["networks"][0]["weight_decay"] == 0.05
    assert landscape(model, "--data", data, *QUICK, "--loss", "training", "--out", tmp_path / "none") == 2
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the networks"),
        (["MODEL", "--points", "4"], "--points must be odd"),
        (["MODEL", "--surfaces", "2", "--pairs", "1"], "--surfaces must be at most --pairs, got 2 of 1"),
        (["MODEL", "--span", "0"], "--span"),
        (["MODEL", "MODEL"], "is named twice"),
        (["MODEL", "--recursions", "1,1"], "--recursions must be one number, or one for each of 1 stages, got 1,1"),
        (["MODEL", "--recipe", "small", "--loss", "plain"], "--recipe decides the training's loss"),
        (["MODEL", "--recipe", "none-such"], "is no recipe"),
        (["no/such/model"], "no/such/model"),
        (["MODEL", "--out", "MODEL"], "is not empty"),
        (["--resume", "DATA"], "holds no landscape"),
        (["--resume", "DATA", "MODEL"], "keeps its networks"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    arguments: list[str], message: str, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"MODEL": str(model), "DATA": str(data)}
    given = [paths.get(word, word) for word in arguments]
    extra = [] if "--resume" in given else ["--data", str(data)]
    if "--out" not in given and extra:
        extra += ["--out", str(tmp_path / "out")]
    assert landscape(*given, *extra) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def finished(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    result_of(out, model, "--data", data, *QUICK)
    return out


@pytest.mark.slow
def test_a_resumed_landscape_keeps_what_decides_its_values(
    finished: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert landscape("--resume", finished, "--points", 5) == 2
    assert "--points cannot change when a landscape is resumed" in capsys.readouterr().err
    assert landscape("--resume", finished, "--points", 3, "--workers", 1) == 0
    monkeypatch.chdir(data.parent)
    assert landscape("--resume", finished, "--data", data.name) == 0


def test_a_changed_record_is_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (finished / LANDSCAPE_FILE).read_bytes()
    (tmp_path / LANDSCAPE_FILE).write_bytes(content.replace(b'"x"', b'"y"').replace(b'"i": 1', b'"i": 2', 1))
    assert landscape("--resume", tmp_path) == 2
    assert "its checksum says that it has changed" in capsys.readouterr().err


def test_two_processes_do_not_compute_one_landscape(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LandscapeRecords(finished):
        assert landscape("--resume", finished) == 2
    assert "is in use by another process" in capsys.readouterr().err


def test_workers_on_other_machines_get_the_network_and_the_images(tmp_path: Path) -> None:
    for name in ("network.safetensors", "images.json"):
        (tmp_path / name).write_text(name)
    job = LandscapeJob(
        network=WeightsSource(path=str(tmp_path / "network.safetensors"), digest="0"), data_dir=str(tmp_path),
        data_digest="0", batch_size=1, directions=("a", "b"), x=0.0, y=0.0,
    )  # fmt: skip
    files = BundleWriter(len).write(job.model_dump(mode="json"))
    assert files.bundles.keys() == {("data_dir",), ("network", "path")}
    assert files.outputs == ()


@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_table_survives_narrow_terminals(width: int, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LandscapeRecords(finished) as records:
        landscapes = landscapes_of(records.header, records.options, records.points)
    show_landscapes(landscapes, Console(width=width))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    for landscape_ in landscapes.landscapes:
        assert f"{landscape_.centre:.4g}" in shown
        assert landscape_.loss in shown


def test_names_are_shown_as_far_as_they_differ() -> None:
    assert short_names(["runs/a/best", "runs/b/best"]) == ["a/best", "b/best"]
    assert short_names(["/home/me/runs/a"]) == ["runs/a"]
    assert short_names(["a", "b/c"]) == ["a", "b/c"]
    (long,) = short_names(["x" * 100])
    assert len(long) == 40


def test_a_scale_holds_all_networks_and_its_ticks_are_round() -> None:
    low, high = _scale([[0.5, None, 2.0], [30.0, 0.4]])
    assert low < 0.4
    assert high > 30.0
    assert _ticks(low, high) == [1, 3, 10, 30] or len(_ticks(low, high)) >= 3
    assert _scale([[1e-3, 1e9]])[1] == pytest.approx(0.95)  # a thousand times the smallest
