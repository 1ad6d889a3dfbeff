"""`evaluate`, from the command line, on a tiny network and a folder of images."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from cli import main
from sret_nas import SReT
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.arch.result_file import write_result
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, write_model
from trials.data.config import DataConfig
from trials.data.image_files import to_array
from trials.data.whole_images import WholeImages
from trials.report.evaluation import Evaluation, OperatingPoint, show_evaluation
from trials.training.classification_scores import ScoreCounts

CLASSES = ("ant", "bee", "cow", "doe", "eel", "fox", "gnu")
PREPROCESSING = Preprocessing(image_size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop_fraction=0.8)


@pytest.fixture(scope="module")
def arch() -> ArchConfig:
    stages = (
        StageConfig(width=8, heads=2, blocks=1, recursions=2, groups=(2, 2), mlp_ratio=2.0),
        StageConfig(width=16, heads=2, blocks=1, recursions=3, groups=(1, 1, 1), mlp_ratio=2.0),
    )
    return ArchConfig(stages=stages, stem=StemConfig(width=4, strides=(1, 2, 2)), image_size=16, classes=len(CLASSES))


@pytest.fixture(scope="module")
def network(arch: ArchConfig) -> SReT:
    """Returns a network with random weights, large enough that its predictions vary."""
    torch.manual_seed(0)
    network = SReT(arch).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(20)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns images of each class, a few of each part."""
    folder = tmp_path_factory.mktemp("images") / "data"
    generator = np.random.default_rng(0)
    for part, count in (("train", 2), ("test", 5)):
        for name in CLASSES:
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (20 + number, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


@pytest.fixture
def model(network: SReT, tmp_path: Path) -> Path:
    return write_with_names(network, tmp_path / "model", CLASSES)


def write_with_names(network: SReT, path: Path, names: tuple[str, ...] | None) -> Path:
    write_model(path, network, ModelInfo(preprocessing=PREPROCESSING, class_names=names))
    return path


def evaluate(*arguments: object) -> int:
    return main(["evaluate", "--no-latency", "--threads", "1", *map(str, arguments)])


def scores_of(path: Path, *arguments: object) -> dict[str, Any]:
    """Returns the JSON of an evaluation that succeeds."""
    assert evaluate("--json", path, *arguments) == 0
    scores: dict[str, Any] = json.loads(path.read_text())
    return scores


def expected_logits(network: SReT, folder: Path, depth: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits and labels of the test images, one image after the other."""
    part = WholeImages.find(DataConfig(source=str(folder))).test
    images = [torch.from_numpy(to_array(part.load(index, "RGB"), PREPROCESSING)) for index in range(len(part))]
    with torch.no_grad():
        logits = torch.cat([network(image[None], depth) for image in images])
    return logits, torch.from_numpy(part.labels)


class TestScores:
    @pytest.mark.slow
    def test_every_depth_has_its_scores_and_costs(
        self, model: Path, network: SReT, arch: ArchConfig, folder: Path, tmp_path: Path
    ) -> None:
        scores = scores_of(tmp_path / "scores.json", model, "--data", folder, "--batch-size", 8)
        assert [row["recursions"] for row in scores["depths"]] == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
        for row in scores["depths"]:
            logits, labels = expected_logits(network, folder, tuple(row["recursions"]))
            assert row["top1_accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
            entropy = torch.nn.functional.cross_entropy(logits.double(), labels).item()
            assert row["cross_entropy"] == pytest.approx(entropy, rel=1e-4)
            cost = cost_of(arch.with_max_recursions(row["recursions"]))
            assert (row["flops"], row["params"]) == (cost.flops, cost.params)
        assert (scores["part"], scores["images"]) == ("test", 35)
        assert len({row["cross_entropy"] for row in scores["depths"]}) == 6

    @pytest.mark.slow
    def test_confusion_and_classes_are_those_of_the_deepest_pass(
        self, model: Path, network: SReT, folder: Path, tmp_path: Path
    ) -> None:
        scores = scores_of(tmp_path / "s.json", model, "--data", folder, "--out", tmp_path / "out")
        logits, labels = expected_logits(network, folder, (2, 3))
        predicted = logits.argmax(1)
        for label, row in enumerate(scores["classes"]):
            assert row["name"] == CLASSES[label]
            assert row["recall"] == ((predicted == label) & (labels == label)).sum().item() / 5
        with (tmp_path / "out" / "confusion.csv").open() as file:
            rows = list(csv.DictReader(file))
        pairs = {(row["class"], row["predicted"]): int(row["images"]) for row in rows}
        assert sum(pairs.values()) == 35
        both = ((labels == 2) & (predicted == predicted[labels == 2][0])).sum().item()
        assert pairs["cow", CLASSES[int(predicted[labels == 2][0])]] == both

    def test_classes_are_matched_by_name(self, network: SReT, folder: Path, tmp_path: Path) -> None:
        """A network whose classes are in another order than the folders has the same accuracy."""
        order = [3, 1, 6, 0, 2, 5, 4]
        shuffled = SReT(network.arch).eval()
        shuffled.load_state_dict(network.state_dict())
        with torch.no_grad():
            shuffled.head.weight.copy_(network.head.weight[order])
            shuffled.head.bias.copy_(network.head.bias[order])
        names = tuple(CLASSES[index] for index in order)
        plain = write_with_names(network, tmp_path / "plain", CLASSES)
        other = write_with_names(shuffled, tmp_path / "other", names)
        first = scores_of(tmp_path / "a.json", plain, "--data", folder, "--depths", "full")
        second = scores_of(tmp_path / "b.json", other, "--data", folder, "--depths", "full")
        assert second["depths"][0]["cross_entropy"] == pytest.approx(first["depths"][0]["cross_entropy"])
        by_name = {row["name"]: row["recall"] for row in second["classes"]}
        assert by_name == {row["name"]: row["recall"] for row in first["classes"]}

    @pytest.mark.slow
    def test_parts_and_depths_can_be_chosen(self, model: Path, folder: Path, tmp_path: Path) -> None:
        for number, (arguments, images, depths) in enumerate((
            (("--part", "all", "--depths", "full"), 49, [[2, 3]]),
            (("--part", "val", "--depths", "equal"), 7, [[1, 1], [2, 2], [2, 3]]),
            (("--recursions", "2,1", "--recursions", "1"), 35, [[1, 1], [2, 1]]),
        )):  # fmt: skip
            scores = scores_of(tmp_path / f"{number}.json", model, "--data", folder, *arguments)
            assert scores["images"] == images
            assert [row["recursions"] for row in scores["depths"]] == depths

    @pytest.mark.slow
    def test_latency_is_measured_at_every_depth(self, model: Path, folder: Path, tmp_path: Path) -> None:
        path = tmp_path / "s.json"
        arguments = ["evaluate", model, "--data", folder, "--depths", "equal", "--json", path, "--threads", 1]
        assert main(list(map(str, arguments))) == 0
        assert all(row["latency_ms"] > 0 for row in json.loads(path.read_text())["depths"])


class TestNetworks:
    def test_weights_beside_a_yaml_file_are_found(
        self, network: SReT, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        network.save(tmp_path / "net.safetensors")
        write_result(tmp_path / "net.yaml", network.arch, metrics={}, recipe={}, provenance={})
        mean = ("--mean", "0.5,0.4,0.3", "--std", "0.2,0.3,0.4", "--depths", "full")
        from_yaml = scores_of(tmp_path / "a.json", tmp_path / "net.yaml", "--data", folder, *mean)
        from_file = scores_of(tmp_path / "b.json", tmp_path / "net.safetensors", "--data", folder, *mean)
        assert from_yaml["depths"] == from_file["depths"]
        assert "the network has no class names" in capsys.readouterr().out

    def test_mean_and_deviation_of_the_data_replace_unknown_ones(
        self, network: SReT, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        network.save(tmp_path / "net.safetensors")
        scores = scores_of(tmp_path / "a.json", tmp_path / "net.safetensors", "--data", folder)
        assert scores["preprocessing"]["mean"] == pytest.approx([0.5] * 3, abs=0.02)
        assert "does not say how its images were prepared" in capsys.readouterr().out


class TestFiles:
    @pytest.mark.slow
    def test_a_folder_of_tables_and_pictures(self, model: Path, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        assert evaluate(model, "--data", folder, "--out", out) == 0
        assert {path.name for path in out.iterdir()} == {
            *("evaluation.json", "depths.csv", "classes.csv", "confusion.csv"),
            *("depths.png", "calibration.png", "confusion.png"),
        }
        for path in out.glob("*.png"):
            with Image.open(path) as image:
                assert min(image.size) > 300
        with (out / "depths.csv").open() as file:
            assert [row["recursions"] for row in csv.DictReader(file)][-1] == "2,3"

    def test_nothing_is_written_over(
        self, model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path, out = tmp_path / "s.json", tmp_path / "out"
        path.write_text("mine")
        out.mkdir()
        (out / "note").write_text("mine")
        for arguments, message in (
            (("--json", path), "exists already: name another --json"),
            (("--out", out), "is not empty"),
            (("--json", model / "config.json", "--force"), "is read by this command"),
            (("--out", folder / "scores"), "must not lie inside the image folder"),
        ):
            assert evaluate(model, "--data", folder, *arguments) == 2
            assert message in capsys.readouterr().err
        assert path.read_text() == "mine"
        assert evaluate(model, "--data", folder, "--json", path, "--force", "--depths", "full") == 0
        assert json.loads(path.read_text())["part"] == "test"


class TestWrongInput:
    def refuse(self, capsys: pytest.CaptureFixture[str], message: str, *arguments: object) -> None:
        """Checks that an evaluation ends with code 2 and a line that holds the message."""
        assert evaluate(*arguments) == 2
        assert message in capsys.readouterr().err

    def test_classes_that_the_network_does_not_know_are_named(
        self, network: SReT, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = ("ANT", *CLASSES[1:])
        model = write_with_names(network, tmp_path / "m", names)
        self.refuse(capsys, "its classes 'ant' are none of the 7", model, "--data", folder)

    def test_another_number_of_classes_without_names(
        self, network: SReT, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fewer = tmp_path / "fewer"
        shutil.copytree(folder, fewer)
        for part in ("train", "test"):
            shutil.rmtree(fewer / part / "gnu")
        model = write_with_names(network, tmp_path / "m", None)
        self.refuse(capsys, "has 6 classes, but", model, "--data", fewer)
        with_names = write_with_names(network, tmp_path / "n", CLASSES)
        assert evaluate(with_names, "--data", fewer, "--depths", "full") == 0
        assert "none of 1 of the network's classes" in capsys.readouterr().out

    def test_depths_that_are_not_there(self, model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.refuse(capsys, "one for each of 2 stages, got 1,1,1", model, "--data", folder, "--recursions", "1,1,1")
        twice = (model, "--data", folder, "--recursions", "1", "--depths", "all")
        self.refuse(capsys, "--recursions and --depths exclude each other", *twice)

    def test_an_unreadable_image_is_named_and_nothing_written(
        self, model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        damaged = tmp_path / "damaged"
        shutil.copytree(folder, damaged)
        (damaged / "test" / "cow" / "3.png").write_bytes(b"cut short")
        arguments = (model, "--data", damaged, "--out", tmp_path / "out", "--json", tmp_path / "s.json")
        self.refuse(capsys, "cow/3.png: cannot be read", *arguments)
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "s.json").exists()

    def test_no_network_and_no_data(self, model: Path, folder: Path, tmp_path: Path, capsys: Any) -> None:
        self.refuse(capsys, "must be a model directory", folder, "--data", folder)
        self.refuse(capsys, "there is no such folder", model, "--data", tmp_path / "nothing")
        self.refuse(capsys, "--mean and --std go together", model, "--data", folder, "--mean", "1,1,1")


@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_tables_fit_into_the_terminal(width: int) -> None:
    counts = ScoreCounts(60)
    generator = np.random.default_rng(0)
    counts.add(generator.normal(size=(200, 60)), generator.integers(0, 60, 200))
    points = tuple(
        OperatingPoint(depth=depth, flops=1_121_700_000, params=4_755_979, latency_ms=123.4, scores=counts.scores())
        for depth in ((1, 1, 1), (2, 2, 2))
    )
    names = tuple(f"a class with a long name, number {number}" for number in range(60))
    confusion = generator.integers(0, 3, (60, 60))
    evaluation = Evaluation(
        network="model", arch_id="0" * 12, part="test", origin="folder", class_names=names, image_size=224,
        device="cpu", threads=2, points=points, confusion=confusion, has_batch_norm=True, details={},
    )  # fmt: skip
    text = io.StringIO()
    show_evaluation(evaluation, Console(file=text, width=width))
    lines = text.getvalue().splitlines()
    table = [line for line in lines if line.startswith((" 1,1,1", " 2,2,2"))]
    assert len(table) == 2
    assert all("1.122G" in line and "123" in line and "…" not in line for line in table)
    assert max(len(line) for line in lines if not line.startswith("Top-1")) <= width
