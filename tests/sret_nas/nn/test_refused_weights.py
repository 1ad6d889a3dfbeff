"""Weights files that others saved, are damaged, or do not fit: they are read or refused in one line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import ConfigError, UserError
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, write_model
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.nn.weight_shapes import network_shapes
from sret_nas.space.supernet_shape import bounding_shape
from sret_nas.yaml_files import dump_yaml
from tests.sret_nas.nn.small_weights import SPACE, assert_equal_states, network, rewritten, supernet, tensors_of

torch.set_num_threads(1)

Load = Callable[[Path], object]


class TestSavedByOthers:
    """Weights that safetensors, timm or Hugging Face saved: without our header, but with a description beside them."""

    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
    def test_the_description_beside_them_is_the_truth(self, tmp_path: Path, prefix: str) -> None:
        own = network()
        state = {f"{prefix}{name}": tensor for name, tensor in own.state_dict().items()}
        safetensors.torch.save_file(state, tmp_path / "mine.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match="it has no 'architecture' in its header"):
            SReT.load(tmp_path / "mine.safetensors")
        (tmp_path / "other.yaml").write_text(dump_yaml(own.arch.to_dict()))
        read = SReT.from_yaml(tmp_path / "other.yaml", tmp_path / "mine.safetensors")
        (tmp_path / "other.yaml").rename(tmp_path / "mine.yaml")
        for same in (read, SReT.load(tmp_path / "mine.safetensors")):
            assert_equal_states(same, own)

    def test_a_model_directory_with_them_is_read(self, tmp_path: Path) -> None:
        own = network()
        write_model(
            tmp_path / "m", own, ModelInfo(preprocessing=Preprocessing(image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3))
        )
        weights = tmp_path / "m" / "model.safetensors"
        safetensors.torch.save_file(own.state_dict(), weights)
        assert_equal_states(SReT.from_pretrained(tmp_path / "m"), own)
        safetensors.torch.save_file({**own.state_dict(), "head.bias": torch.zeros(7)}, weights)
        with pytest.raises(UserError, match=r"head\.bias must have the shape \(\d+,\), got \(7,\)"):
            SReT.from_pretrained(tmp_path / "m")

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "_forward_module.module."])
    def test_a_wrapped_state_dict_is_loaded(self, prefix: str) -> None:
        own, other = network(), SReT(network().arch)
        other.load_state_dict({f"{prefix}{name}": tensor for name, tensor in own.state_dict().items()})
        assert_equal_states(other, own)

    @pytest.mark.parametrize("value", [None, 5, b"x", ["a"]])
    def test_what_is_no_path_is_refused(self, value: Any) -> None:
        for read in (SReT.from_pretrained, SReT.load, SReT.from_yaml):
            with pytest.raises(UserError, match="must be a path, got"):
                read(value)


class TestRefuses:
    @pytest.mark.parametrize("load", [SReT.load, Supernet.load])
    def test_a_missing_file_or_a_folder(self, tmp_path: Path, load: Load) -> None:
        with pytest.raises(UserError, match=r"^\S+: there is no such file$"):
            load(tmp_path / "none.safetensors")
        with pytest.raises(UserError, match=r"^\S+: cannot be read: it is a folder, not a file$"):
            load(tmp_path)

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
    def test_a_torn_file(self, network_file: Path, supernet_file: Path, share: float) -> None:
        cases: tuple[tuple[Path, Load], ...] = ((network_file, SReT.load), (supernet_file, Supernet.load))
        for path, load in cases:
            content = path.read_bytes()
            path.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(UserError, match=rf"^{path}: cannot be read as weights: \S"):
                load(path)

    @pytest.mark.parametrize("content", [b"stages:\n- width: 8\n", b"\x80\x02}q\x00.", b"\xff" * 64, b"PK\x03\x04" * 9])
    def test_a_file_of_another_kind(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "w").write_bytes(content)
        with pytest.raises(UserError, match=r"/w: cannot be read as weights: \S"):
            SReT.load(tmp_path / "w")

    def test_each_others_files(self, network_file: Path, supernet_file: Path) -> None:
        with pytest.raises(
            UserError,
            match=r"/supernet\.\w+: does not hold a network's weights: it holds a supernet, which `search --s",
        ):
            SReT.load(supernet_file)
        with pytest.raises(
            UserError,
            match=r"/network\.safetensors: does not hold a supernet: it holds a single network's weights, which `ev",
        ):
            Supernet.load(network_file)

    @pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
    def test_weights_of_other_programs(self, tmp_path: Path, metadata: dict[str, str] | None) -> None:
        safetensors.torch.save_file({"weight": torch.zeros(3)}, tmp_path / "w", metadata)
        with pytest.raises(UserError, match=r"not hold a network's weights: it has no 'architecture' in its header$"):
            SReT.load(tmp_path / "w")

    def test_a_header_that_is_no_json(self, tmp_path: Path) -> None:
        safetensors.torch.save_file(tensors_of(network()), tmp_path / "w", {"architecture": "{"})
        with pytest.raises(UserError, match="/w: cannot be read as weights: "):
            SReT.load(tmp_path / "w")

    def test_a_supernet_that_tells_nothing_of_its_training(self, tmp_path: Path) -> None:
        header = {"extent": json.dumps(bounding_shape(SPACE).model_dump(mode="json"))}
        safetensors.torch.save_file(tensors_of(supernet()), tmp_path / "w", header)
        with pytest.raises(UserError, match="does not hold a supernet: it has no 'training' in its header"):
            Supernet.load(tmp_path / "w")

    def test_an_impossible_architecture(self, network_file: Path) -> None:
        data = network().arch.to_dict()
        data["stages"][0]["heads"] = 3
        rewritten(network_file, header={"architecture": data})
        with pytest.raises(ConfigError, match=r"architecture: stages\[0\]: heads must divide width"):
            SReT.load(network_file)

    def test_an_impossible_shape(self, supernet_file: Path) -> None:
        data = bounding_shape(SPACE).model_dump(mode="json")
        data["stages"][0]["widths"] = [12, 8]
        rewritten(supernet_file, header={"extent": data})
        with pytest.raises(ConfigError, match=r"extent: stages\[0\]\.widths: must ascend, got \[12, 8\]"):
            Supernet.load(supernet_file)

    @pytest.mark.parametrize(
        ("tensors", "problem"),
        [
            ({"head.weight": torch.zeros(10, 9)}, r"head\.weight must have the shape \(10, 16\), got \(10, 9\)"),
            ({"head.weight": None}, r"head\.weight is missing; it must have the shape \(10, 16\)"),
            ({"tail.weight": torch.zeros(1)}, r"tail\.weight is not part of what is described"),
        ],
    )
    def test_other_tensors_than_the_header_tells_of(
        self, network_file: Path, supernet_file: Path, tensors: dict[str, Any], problem: str
    ) -> None:
        cases: tuple[tuple[Path, Load], ...] = ((network_file, SReT.load), (supernet_file, Supernet.load))
        for path, load in cases:
            rewritten(path, **tensors)
            with pytest.raises(UserError, match=rf"^{path}: {problem}$"):
                load(path)

    def test_a_shape_beyond_all_memory(self, supernet_file: Path) -> None:
        data = bounding_shape(SPACE).model_dump(mode="json")
        data["stages"][0]["mlp_hidden"] = 10**12
        rewritten(supernet_file, header={"extent": data})
        with pytest.raises(UserError, match=r"fc1\.weight must have the shape \(1000000000000, 12\), got \(12, 12\)"):
            Supernet.load(supernet_file)

    def test_weights_of_an_architecture_that_was_swapped(self, network_file: Path) -> None:
        other: ArchConfig = SPACE.network([1, 0])
        rewritten(network_file, header={"architecture": other.to_dict()})
        with pytest.raises(UserError, match=r"must have the shape \("):
            SReT.load(network_file)

    def test_a_header_that_claims_much_more_than_the_file_has(self, supernet_file: Path, network_file: Path) -> None:
        shape = bounding_shape(SPACE).model_dump(mode="json")
        for stage in shape["stages"]:
            stage |= {"widths": list(range(1, 8193)), "blocks": 128}
        rewritten(supernet_file, header={"extent": shape})
        arch = network().arch.to_dict()
        arch["stages"][0] |= {"width": 8192, "heads": 1, "blocks": 128}
        rewritten(network_file, header={"architecture": arch})
        cases: tuple[tuple[Path, Load], ...] = ((network_file, SReT.load), (supernet_file, Supernet.load))
        for path, load in cases:
            started = time.process_time()
            with pytest.raises(UserError, match=r"must have the shape \(1, 8192, \d, \d\), got"):
                load(path)
            assert time.process_time() - started < 1

    def test_permutations_of_more_numbers_than_weights(self, tmp_path: Path) -> None:
        stage = {
            "width": 1,
            "heads": 1,
            "blocks": 4,
            "recursions": 16,
            "groups": [2] * 16,
            "mlp_ratio": 1.0,
            "nll": "none",
        }
        arch = ArchConfig.from_dict({"stages": [stage], "stem": {"width": 1, "strides": [1, 1, 1]}, "image_size": 200})
        tensors = {name: torch.zeros(shape) for name, shape in network_shapes(arch)}
        tensors |= {name: tensor.long() for name, tensor in tensors.items() if name.endswith("num_batches_tracked")}
        safetensors.torch.save_file(tensors, tmp_path / "w", {"architecture": json.dumps(arch.to_dict())})
        with pytest.raises(UserError, match=r"stages\[0\] permutes 40,000 tokens in 60 places, which makes 2,400,000"):
            SReT.load(tmp_path / "w")

    @pytest.mark.parametrize(
        ("tensor", "problem"),
        [
            (torch.full((10, 16), float("nan")), "holds numbers that are not finite: its training diverged"),
            (torch.full((10, 16), float("inf")), "holds numbers that are not finite: its training diverged"),
            (torch.zeros(10, 16, dtype=torch.int64), "must be of type F64, F32, F16, BF16, got I64"),
            (torch.zeros(10, 16, dtype=torch.float64), "must be of the type F32 of pos_embed, got F64"),
        ],
    )
    def test_weights_of_no_use(self, network_file: Path, supernet_file: Path, tensor: Tensor, problem: str) -> None:
        cases: tuple[tuple[Path, Load], ...] = ((network_file, SReT.load), (supernet_file, Supernet.load))
        for path, load in cases:
            rewritten(path, **{"head.weight": tensor})
            with pytest.raises(UserError, match=rf"^{path}: head\.weight {problem}$"):
                load(path)


@pytest.mark.parametrize(("by", "what"), [(-1, "is cut short"), (-500, "is cut short"), (1, "is too long")])
def test_an_interrupted_copy_is_called_so(by: int, what: str, network_file: Path, tmp_path: Path) -> None:
    content = network_file.read_bytes()
    path = tmp_path / "w.safetensors"
    path.write_bytes(content[:by] if by < 0 else content + bytes(by))
    rule = rf"it {what}: it must have {len(content):,} bytes, got {len(content) + by:,}: copy or download it again$"
    with pytest.raises(UserError, match=rule):
        SReT.load(path)


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_checkpoint_of_torch_is_called_so(as_zip: bool, tmp_path: Path) -> None:
    torch.save({"model": tensors_of(network())}, tmp_path / "w.pth", _use_new_zipfile_serialization=as_zip)
    with pytest.raises(
        UserError, match=r"w\.pth: cannot be .*: it is a file of torch\.save, .* by `convert FILE --to D"
    ):
        SReT.load(tmp_path / "w.pth")


def test_a_header_whose_length_looks_like_a_checkpoint_of_torch_is_read(network_file: Path, tmp_path: Path) -> None:
    """640 bytes and multiples of 65,536 more: `80 02` in the file."""
    content = network_file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    padded = length + (640 - length) % 65_536
    path = tmp_path / "w.safetensors"
    path.write_bytes(padded.to_bytes(8, "little") + content[8 : 8 + length].ljust(padded) + content[8 + length :])
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert SReT.load(path).arch == SReT.load(network_file).arch
