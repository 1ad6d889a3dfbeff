"""`convert`, from the command line: public checkpoints become model directories, and back."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cli import main
from sret_nas import SReT
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig
from sret_nas.files import write_atomically
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, read_info, write_model
from sret_nas.nn.public_checkpoints import to_public
from sret_nas.yaml_files import dump_yaml
from tests.sret_nas.nn.test_public_checkpoints import REFERENCES, reference_arch, reference_arrays


@pytest.fixture
def arch() -> ArchConfig:
    stages = tuple(
        StageConfig(width=width, heads=2, blocks=blocks, recursions=2, groups=(2, 1), mlp_ratio=2.0)
        for width, blocks in ((4, 1), (8, 2))
    )
    return ArchConfig(stages=stages, image_size=32, classes=3)


@pytest.fixture
def state(arch: ArchConfig) -> dict[str, Tensor]:
    """Returns random weights under the public names; shared blocks occur once for each use."""
    generator = torch.Generator().manual_seed(0)
    ours = {
        name: torch.tensor(7) if name.endswith("tracked") else torch.rand(tensor.shape, generator=generator)
        for name, tensor in SReT(arch).state_dict().items()
    }
    return to_public(ours, arch)


@pytest.fixture
def checkpoint(state: dict[str, Tensor], tmp_path: Path) -> Path:
    """Returns a file as the public code's training writes it."""
    path = tmp_path / "public.pth"
    arguments = argparse.Namespace(model="SReT_mine", lr=5e-4, data_path="/somewhere/private", betas=None, sizes=[1, 2])
    torch.save({"model": state, "optimizer": {}, "epoch": 299, "args": arguments}, path)
    return path


@pytest.fixture
def described(arch: ArchConfig, tmp_path: Path) -> Path:
    return yaml_of(arch, tmp_path)


def yaml_of(arch: ArchConfig, folder: Path) -> Path:
    path = folder / "network.yaml"
    write_atomically(path, dump_yaml(arch.to_dict()))
    return path


def convert(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


class TestToDirectory:
    def test_the_directory_holds_the_network_and_how_images_are_prepared(
        self, checkpoint: Path, described: Path, arch: ArchConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = tmp_path / "names.txt"
        names.write_text("cat\ndog\n\nhorse\n")
        out = tmp_path / "model"
        assert convert(checkpoint, "--to", out, "--variant", described, "--class-names", names) == 0
        assert SReT.from_pretrained(out).arch == arch
        info = read_info(out)
        assert info.class_names == ("cat", "dog", "horse")
        assert (info.preprocessing.image_size, info.preprocessing.crop_fraction) == (32, 0.875)
        assert info.preprocessing.mean == (0.485, 0.456, 0.406)
        assert info.provenance["public_arguments"] == {"model": "SReT_mine", "lr": 5e-4, "betas": None}
        assert "private" not in (out / "config.json").read_text()
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"{checkpoint}: {described}, 32 px, 3 classes, ")
        assert lines[1] == f"  groups: as in --variant {described}"

    def test_there_and_back_is_the_same_file(
        self, checkpoint: Path, described: Path, state: dict[str, Tensor], tmp_path: Path
    ) -> None:
        model, back, again = tmp_path / "model", tmp_path / "back.pth", tmp_path / "again"
        assert convert(checkpoint, "--to", model, "--variant", described) == 0
        assert convert(model, "--to-public", back) == 0
        found = torch.load(back, weights_only=True)["model"]
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], state[name]) and found[name].dtype == state[name].dtype for name in state)
        assert convert(back, "--to", again) == 0, "the file says its architecture, groups included"
        assert (
            json.loads((again / "config.json").read_text())["model_args"]
            == (json.loads((model / "config.json").read_text())["model_args"])
        )

    def test_there_and_back_keeps_classes_and_how_images_are_prepared(
        self, arch: ArchConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        seen = Preprocessing(image_size=32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), crop_fraction=0.9)
        info = ModelInfo(preprocessing=seen, class_names=("x", "y", "z"))
        write_model(tmp_path / "model", SReT(arch), info)
        assert convert(tmp_path / "model", "--to-public", tmp_path / "p.pth") == 0
        assert capsys.readouterr().out.splitlines()[1] == (
            "note: the public code prepares images otherwise than this network needs: mean 0.485, 0.456, 0.406 for "
            "0.1, 0.2, 0.3; deviation 0.229, 0.224, 0.225 for 0.4, 0.5, 0.6; centred 87.5% for 90%"
        )
        assert convert(tmp_path / "p.pth", "--to", tmp_path / "back") == 0
        found = read_info(tmp_path / "back")
        assert (found.preprocessing, found.class_names) == (seen, ("x", "y", "z"))
        (tmp_path / "names.txt").write_text("1\n2\n3\n")
        assert convert(tmp_path / "p.pth", "--to", tmp_path / "named", "--class-names", tmp_path / "names.txt") == 0
        assert read_info(tmp_path / "named").class_names == ("1", "2", "3")

    def test_the_public_code_s_own_preparation_needs_no_note(
        self, checkpoint: Path, described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert convert(checkpoint, "--to", tmp_path / "model", "--variant", described) == 0
        capsys.readouterr()
        assert convert(tmp_path / "model", "--to-public", tmp_path / "p.pth") == 0
        assert "note" not in capsys.readouterr().out

    def test_a_file_whose_name_is_not_utf_8_gives_a_directory_that_can_be_read(
        self, checkpoint: Path, described: Path, tmp_path: Path
    ) -> None:
        renamed = checkpoint.rename(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe9seau.pth"))
        assert convert(renamed, "--to", tmp_path / "model", "--variant", described) == 0
        assert read_info(tmp_path / "model").provenance["converted_from"] == "r\\udce9seau.pth"

    @pytest.mark.parametrize("name", REFERENCES)
    def test_the_logits_are_those_of_the_public_code(self, shared_dir: Path, name: str, tmp_path: Path) -> None:
        torch.save({"model": reference_arrays(shared_dir, f"{name}/state/")}, tmp_path / "public.pth")
        described = yaml_of(reference_arch(shared_dir, name), tmp_path)
        assert convert(tmp_path / "public.pth", "--to", tmp_path / "model", "--variant", described) == 0
        network = SReT.from_pretrained(tmp_path / "model").eval()
        permutations = reference_arrays(shared_dir, f"{name}/perm/")
        drawn = [permutations[str(number)] for number in range(len(permutations))]
        network.set_permutations(dict(zip(network.permuted_applications(), drawn, strict=True)))
        with torch.no_grad():
            logits = network(reference_arrays(shared_dir, "input")[""])
        torch.testing.assert_close(logits, reference_arrays(shared_dir, f"{name}/logits")[""], rtol=0, atol=1e-5)


class TestWrongInput:
    def refuse(self, message: str, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        """Checks that a conversion ends with code 2 and one line that holds the message."""
        assert convert(*arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1

    def test_a_checkpoint_of_another_network(
        self, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.refuse("public.pth fits no published variant; compared with", capsys, checkpoint, "--to", tmp_path / "m")
        assert not (tmp_path / "m").exists()

    @pytest.mark.parametrize(
        ("about", "message"),
        [
            ({"class_names": ["x", "y"]}, "w.pth: sret_nas_about.class_names must have 3 names, got 2"),
            ({"class_names": ["x", "y", "x"]}, "w.pth: sret_nas_about.class_names must differ, got 'x' twice"),
            ({"class_names": "xyz"}, "w.pth: sret_nas_about: class_names: must be a list, got 'xyz'"),
            ({"preprocessing": {"mean": [0.5]}}, "w.pth: sret_nas_about: preprocessing.image_size: is missing"),
            (
                {"preprocessing": {"image_size": 32, "mean": [0.5], "std": [0.5]}},
                "w.pth: sret_nas_about.preprocessing.mean must have 3 values, got 1",
            ),
            (7, "w.pth: sret_nas_about: must be a mapping"),
        ],
    )
    def test_what_a_file_says_of_its_images_is_checked(
        self, about: object, message: str, state: dict[str, Tensor], arch: ArchConfig, tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        content = {"model": state, "sret_nas_architecture": arch.to_dict(), "sret_nas_about": about}
        torch.save(content, tmp_path / "w.pth")
        self.refuse(message, capsys, tmp_path / "w.pth", "--to", tmp_path / "m")
        assert not (tmp_path / "m").exists()

    def test_copies_of_a_shared_block_that_differ(
        self, state: dict[str, Tensor], described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        state["transformers.0.blocks.2.attn.qkv.weight"] = torch.ones(12, 4)
        torch.save({"model": state}, tmp_path / "w.pth")
        arguments = (tmp_path / "w.pth", "--to", tmp_path / "m", "--variant", described)
        self.refuse("w.pth: transformers.0.blocks.2.attn.qkv.weight must equal", capsys, *arguments)
        assert not (tmp_path / "m").exists()

    def test_names_that_are_not_one_per_class(
        self, checkpoint: Path, described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = tmp_path / "names.txt"
        for text, message in (("a\nb\n", "for 3 classes, got 2"), ("a\nb\na\n", "must differ, got 'a' twice")):
            names.write_text(text)
            arguments = (checkpoint, "--to", tmp_path / "m", "--variant", described, "--class-names", names)
            self.refuse(message, capsys, *arguments)

    def test_what_exists_is_not_written_over(
        self, checkpoint: Path, described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = tmp_path / "model"
        assert convert(checkpoint, "--to", model, "--variant", described) == 0
        self.refuse("is not empty", capsys, checkpoint, "--to", model, "--variant", described)
        self.refuse("exists already", capsys, model, "--to-public", checkpoint)
        weights = model / "model.safetensors"
        self.refuse("is read by this command", capsys, model, "--to-public", weights, "--force")

    def test_options_of_the_other_direction(
        self, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "o"
        self.refuse("--variant belongs to --to", capsys, tmp_path, "--to-public", out, "--variant", "sret_t")
        self.refuse("--force belongs to --to-public", capsys, checkpoint, "--to", out, "--force")
        self.refuse("is a folder", capsys, tmp_path, "--to", out)
        self.refuse("must be a model directory", capsys, tmp_path, "--to-public", out)

    def test_what_the_public_code_cannot_express(
        self, arch: ArchConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stages = tuple(stage.model_copy(update={"nll": "none"}) for stage in arch.stages)
        preprocessing = Preprocessing(image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
        network = SReT(arch.model_copy(update={"stages": stages}))
        write_model(tmp_path / "m", network, ModelInfo(preprocessing=preprocessing))
        self.refuse("NLL after every application only", capsys, tmp_path / "m", "--to-public", tmp_path / "o.pth")
        assert not (tmp_path / "o.pth").exists()
