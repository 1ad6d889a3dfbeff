"""First weights: from a supernet, and from a network of another image size, channels or classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, write_model
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import bounding_shape
from tests.trials.supernet.tiny_supernet import SPACE, proxy
from tests.trials.training.tiny_training import ARCH
from trials.training.initial_weights import load_initial, weights_of_checkpoint, weights_of_supernet
from trials.training.recipe import proxy_arch


def changed(**changes: Any) -> ArchConfig:
    return ArchConfig.from_dict({**ARCH.to_dict(), **changes})


def changed_stage(**changes: Any) -> ArchConfig:
    first, second = ARCH.to_dict()["stages"]
    return changed(stages=[{**first, **changes}, second])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "network.safetensors"
    SReT(ARCH).save(path)
    return path


def test_the_same_network_keeps_every_weight(checkpoint: Path) -> None:
    network = SReT(ARCH)
    assert load_initial(network, weights_of_checkpoint(checkpoint, ARCH)) == []
    for name, value in SReT.load(checkpoint).state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_a_finetuned_network_keeps_what_fits(checkpoint: Path) -> None:
    target = changed(image_size=32, classes=3, channels=3)
    network = SReT(target)
    head = network.head.weight.clone()
    changes = load_initial(network, weights_of_checkpoint(checkpoint, target))
    assert changes == [
        "position embedding resized from 4 to 8 tokens a side",
        "first convolution adapted from 1 to 3 channels",
        "new head for 3 classes (had 10)",
    ]
    before = SReT.load(checkpoint)
    assert torch.equal(network.head.weight, head)
    assert torch.equal(network.stages[0].blocks[0].mlp.fc1.weight, before.stages[0].blocks[0].mlp.fc1.weight)
    grey = torch.rand(2, 1, 32, 32)
    convolved = [each.stem.convs[0](grey.expand(2, each.arch.channels, 32, 32)) for each in (before, network)]
    torch.testing.assert_close(*convolved)  # a grey image, shown in colour, looks the same


def test_a_model_directory_and_its_run_are_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    info = ModelInfo(preprocessing=Preprocessing(image_size=16, mean=(0.3,), std=(0.4,)))
    write_model(tmp_path / "best", SReT.load(checkpoint), info)
    for path in (tmp_path, tmp_path / "best"):
        assert weights_of_checkpoint(path, ARCH).network.arch == ARCH


@pytest.mark.parametrize(
    ("names", "change"),
    [
        (tuple("jihgfedcba"), "head put into the order of the data's classes"),
        (tuple("bxdefghijy"), "new head for 2 of 10 classes, which have other names"),
        (tuple("klmnopqrst"), "new head for 10 of 10 classes, which have other names"),
    ],
)
def test_classes_of_a_model_directory_are_matched_by_name(
    names: tuple[str, ...], change: str, checkpoint: Path, tmp_path: Path
) -> None:
    known = tuple("abcdefghij")
    info = ModelInfo(preprocessing=Preprocessing(image_size=16, mean=(0.3,), std=(0.4,)), class_names=known)
    write_model(tmp_path / "best", SReT.load(checkpoint), info)
    before, network = SReT.load(checkpoint), SReT(ARCH)
    new = network.head.weight.clone()
    assert load_initial(network, weights_of_checkpoint(tmp_path, ARCH), names) == [change]
    for position, name in enumerate(names):
        expected = before.head.weight[known.index(name)] if name in known else new[position]
        assert torch.equal(network.head.weight[position], expected), name
    by_file = weights_of_checkpoint(tmp_path / "best" / "model.safetensors", ARCH)
    assert load_initial(SReT(ARCH), by_file, names) == [change]
    same = SReT(ARCH)
    assert load_initial(same, weights_of_checkpoint(tmp_path, ARCH), known) == []
    assert torch.equal(same.head.weight, before.head.weight)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (changed_stage(mlp_ratio=2.0), r"its stages\[0\]\.mlp hidden width is 8, but the architecture's is 16"),
        (changed_stage(recursions=2), r"its stages\[0\]\.recursions is 3, but the architecture's is 2"),
        (changed(stem={"width": 4, "strides": [2, 2, 2]}), r"its stem\.strides is \[2, 2, 1\], but"),
        (changed(residual="plain"), r"its residual is path, but the architecture's is plain"),
        (changed(head="class_token"), r"its head is average, but the architecture's is class_token"),
        (changed(stem={"width": 4, "strides": [2, 2, 1], "norm": "layer"}), r"its stem\.norm is batch, but"),
        (
            changed(image_size=28),
            r"at 28 px stage 1 has 7 x 7 tokens, which 2 slices do not divide: choose another --image-size",
        ),
    ],
)
def test_checkpoints_that_do_not_fit(target: ArchConfig, message: str, checkpoint: Path) -> None:
    with pytest.raises(UserError, match=message):
        weights_of_checkpoint(checkpoint, target)


def test_other_groups_fit(checkpoint: Path) -> None:
    assert weights_of_checkpoint(checkpoint, changed_stage(groups=[4, 1, 1])).network.arch == ARCH


def test_a_finetuned_network_of_other_variants_keeps_what_fits(tmp_path: Path) -> None:
    stem = {"width": 4, "strides": [2, 2, 1], "kind": "patch"}
    before = changed(stem=stem, head="distillation_token", residual="plain")
    SReT(before).save(tmp_path / "network.safetensors")
    target = ArchConfig.from_dict({**before.to_dict(), "channels": 3, "classes": 3})
    network = SReT(target)
    changes = load_initial(network, weights_of_checkpoint(tmp_path / "network.safetensors", target))
    assert changes == ["first convolution adapted from 1 to 3 channels", "new head for 3 classes (had 10)"]
    loaded = SReT.load(tmp_path / "network.safetensors")
    assert torch.equal(network.class_tokens.embedding, loaded.class_tokens.embedding)
    torch.testing.assert_close(network.stem.proj.weight.sum(dim=1), loaded.stem.proj.weight[:, 0])


@pytest.fixture(scope="module")
def supernet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_supernet(tmp_path_factory.mktemp("supernet") / "supernet.safetensors", 1.0)


def write_supernet(path: Path, width_scale: float) -> Path:
    torch.manual_seed(0)
    how = proxy(width_scale=width_scale)
    supernet = Supernet(bounding_shape(SPACE, adapted=lambda arch: proxy_arch(arch, how, channels=1, classes=10)))
    supernet.save(path, {"proxy": how.model_dump(mode="json")})
    return path


def target_in_space() -> ArchConfig:
    rows = SPACE.to_dict()["stages"]
    stages = [
        {key: value[0] for key, value in stage.items() if key != "nll"} | {"nll": "none", "recursions": 1}
        for stage in rows
    ]
    return ArchConfig.from_dict({"stages": stages, "stem": {"width": 4, "strides": [2, 1, 1]}, "image_size": 32})


def test_a_supernet_gives_the_weights_of_its_network(supernet_file: Path) -> None:
    target = target_in_space()
    network = SReT(target)
    changes = load_initial(network, weights_of_supernet(supernet_file, target))
    assert changes[0] == "position embedding resized from 8 to 16 tokens a side"
    extracted = Supernet.load(supernet_file)[0].extract(proxy_arch(target, proxy(), channels=1, classes=10))
    name = "stages.1.blocks.0.mlp.fc1.weight"
    assert torch.equal(network.state_dict()[name], extracted.state_dict()[name])


def test_a_supernet_that_lacks_the_network(supernet_file: Path) -> None:
    with pytest.raises(UserError, match=r"supernet\.safetensors: the supernet does not hold the network"):
        weights_of_supernet(supernet_file, ARCH)


def test_a_supernet_of_narrower_networks(tmp_path: Path) -> None:
    path = write_supernet(tmp_path / "narrow.safetensors", 0.5)
    with pytest.raises(UserError, match=r"holds networks of 0\.5 times the width of their targets"):
        weights_of_supernet(path, target_in_space())
