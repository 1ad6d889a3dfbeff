"""Converted weights of the public code, against logits computed by the public code."""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig
from sret_nas.arch.presets import preset
from sret_nas.errors import UserError
from sret_nas.nn.network import SReT
from sret_nas.nn.public_checkpoints import from_public, read_public, to_public

torch.set_num_threads(1)

REFERENCES = ("unsliced", "sliced", "sliced_permuted")


def reference_arch(shared_dir: Path, name: str) -> ArchConfig:
    """Returns the architecture of a reference network from the public code's arguments (two loops everywhere)."""
    given = json.loads((shared_dir / "parity" / "sret_reference_small.json").read_text())[name]
    unsliced = [1] * len(given["heads"])
    stages = tuple(
        StageConfig(
            width=base * heads,
            heads=heads,
            blocks=blocks,
            recursions=depth // blocks,
            groups=groups,
            mlp_ratio=given["mlp_ratio"],
            nll_ratio=float(given["np_mlp_ratio"]),
        )
        for base, heads, blocks, depth, groups in zip(
            given["base_dims"],
            given["heads"],
            given["recursive_num"],
            given["depth"],
            zip(given.get("groups1", unsliced), given.get("groups2", unsliced), strict=True),
            strict=True,
        )
    )
    return ArchConfig(stages=stages, image_size=given["image_size"], classes=given["num_classes"])


def reference_arrays(shared_dir: Path, prefix: str) -> dict[str, Tensor]:
    """Returns the tensors of the reference file with a prefix, by the rest of their names."""
    with np.load(shared_dir / "parity" / "sret_reference_small.npz") as arrays:
        return {
            name.removeprefix(prefix): torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith(prefix)
        }


def public_state(arch: ArchConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = SReT(arch).state_dict()
    return to_public({name: torch.randn(tensor.shape) for name, tensor in state.items()}, arch)


def load_public(path: Path, arch: ArchConfig) -> dict[str, Tensor]:
    return read_public(path).convert(arch)


@pytest.fixture
def arch() -> ArchConfig:
    stages = tuple(
        StageConfig(width=width, heads=2, blocks=blocks, recursions=2, groups=(2, 1), mlp_ratio=2.0)
        for width, blocks in ((4, 1), (8, 2))
    )
    return ArchConfig(stages=stages, image_size=32, classes=3)


@pytest.mark.parametrize("name", REFERENCES)
class TestParity:
    def test_logits_equal_those_of_the_public_code(self, shared_dir: Path, name: str) -> None:
        arch = reference_arch(shared_dir, name)
        network = SReT(arch).eval()
        network.load_state_dict(from_public(reference_arrays(shared_dir, f"{name}/state/"), arch))
        permutations = reference_arrays(shared_dir, f"{name}/perm/")
        drawn = [permutations[str(number)] for number in range(len(permutations))]
        network.set_permutations(dict(zip(network.permuted_applications(), drawn, strict=True)))
        with torch.no_grad():
            logits = network(reference_arrays(shared_dir, "input")[""])
        expected = reference_arrays(shared_dir, f"{name}/logits")[""]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)

    def test_back_to_public_is_the_file_again(self, shared_dir: Path, name: str) -> None:
        arch = reference_arch(shared_dir, name)
        state = reference_arrays(shared_dir, f"{name}/state/")
        again = to_public(from_public(state, arch), arch)
        assert again.keys() == state.keys()
        assert all(torch.equal(again[key], state[key]) for key in state)


class TestConversion:
    def test_there_and_back_is_the_same_state(self) -> None:
        arch = preset("sret_t")
        state = SReT(arch).state_dict()
        again = from_public(to_public(state, arch), arch)
        assert again.keys() == state.keys()
        assert all(torch.equal(again[name], state[name]) for name in state)
        SReT(arch).load_state_dict(again)

    def test_public_state_of_sret_t_repeats_its_blocks(self) -> None:
        """7.98 M numbers, as the public code's state dict of SReT-T holds, for 4.76 M parameters."""
        arch = preset("sret_t")
        numbers = sum(tensor.numel() for tensor in to_public(SReT(arch).state_dict(), arch).values())
        assert round(numbers / 1e6, 2) == 7.98

    def test_missing_and_unknown_names_are_listed(self, arch: ArchConfig) -> None:
        state = public_state(arch)
        state["head.extra"] = state.pop("head.bias")
        del state["norm.bias"]
        with pytest.raises(UserError, match=r"lacks head\.bias, norm\.bias and holds the unknown head\.extra$"):
            from_public(state, arch)
        ours = SReT(arch).state_dict()
        del ours["pos_embed"]
        with pytest.raises(UserError, match=r"the state dict does not fit this architecture: it lacks pos_embed$"):
            to_public(ours, arch)

    def test_another_shape_is_refused(self, arch: ArchConfig) -> None:
        state = public_state(arch) | {"head.weight": torch.zeros(4, 8)}
        with pytest.raises(UserError, match=r"head\.weight must have the shape \(3, 8\) .*, got \(4, 8\)"):
            from_public(state, arch)

    @pytest.mark.parametrize("name", ["attn.qkv.weight", "coefficient3.bias"])
    def test_unequal_copies_of_a_shared_block_are_refused(self, arch: ArchConfig, name: str) -> None:
        key = f"transformers.0.blocks.2.{name}"
        state = public_state(arch)
        state[key] = state[key] + 1
        with pytest.raises(UserError, match=f"{key} must equal the earlier uses"):
            from_public(state, arch)

    @pytest.mark.parametrize("change", [{"loop": "external"}, {"nll": "between"}, {"nll": "none"}])
    def test_what_the_public_code_cannot_express_is_refused(self, arch: ArchConfig, change: dict[str, str]) -> None:
        stages = (arch.stages[0], arch.stages[1].model_copy(update=change))
        beyond = arch.model_copy(update={"stages": stages})
        with pytest.raises(UserError, match=r"internal loops with an NLL .* in stages\[1\]"):
            to_public(SReT(beyond).state_dict(), beyond)


class TestCheckpoint:
    def test_reads_a_file_as_the_public_code_saves_it(self, arch: ArchConfig, tmp_path: Path) -> None:
        state = public_state(arch)
        torch.save({"model": state, "epoch": 300, "args": argparse.Namespace(lr=5e-4)}, tmp_path / "sret.pth")
        loaded = load_public(tmp_path / "sret.pth", arch)
        expected = from_public(state, arch)
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)

    def test_torch_s_advice_to_load_without_checks_is_not_passed_on(self, arch: ArchConfig, tmp_path: Path) -> None:
        (tmp_path / "text.pth").write_text("image_size: 32\n")
        with pytest.raises(UserError, match=r"it is no file of torch\.save, or damaged$") as caught:
            load_public(tmp_path / "text.pth", arch)
        assert "weights_only" not in str(caught.value)

    def test_a_file_that_would_run_code_is_refused(self, arch: ArchConfig, tmp_path: Path) -> None:
        torch.save({"model": {}, "args": Path("code")}, tmp_path / "bad.pth")
        with pytest.raises(UserError, match=r"bad\.pth: not a checkpoint that can be read safely"):
            load_public(tmp_path / "bad.pth", arch)

    def test_other_files_are_refused(self, arch: ArchConfig, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none\.pth: there is no such file"):
            load_public(tmp_path / "none.pth", arch)
        (tmp_path / "text.pth").write_text("hello")
        with pytest.raises(UserError, match=r"text\.pth: not a checkpoint"):
            load_public(tmp_path / "text.pth", arch)
        torch.save({"weights": {}}, tmp_path / "keys.pth")
        with pytest.raises(UserError, match=r"keys\.pth: must hold weights by name, .* got none"):
            load_public(tmp_path / "keys.pth", arch)

    @pytest.mark.parametrize("wrap", [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_ema": state},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}, "model_ema": {}},
        lambda state: {"model": {"state_dict": {f"_orig_mod.module.{name}": value for name, value in state.items()}}},
        lambda state: {"params_ema": {f"network.{name}": value for name, value in state.items()}},
        lambda state: {"module": {f"_forward_module._fsdp_wrapped_module.{k}": v for k, v in state.items()}},
        lambda state: {"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in state.items()}},
    ])  # fmt: skip
    def test_what_weights_come_wrapped_in_is_taken_off(self, arch: ArchConfig, tmp_path: Path, wrap: Any) -> None:
        state = public_state(arch)
        torch.save(wrap(state), tmp_path / "w.pth")
        loaded, expected = load_public(tmp_path / "w.pth", arch), from_public(state, arch)
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)

    @pytest.mark.parametrize(("value", "problem"), [
        (torch.full((3,), float("nan")), r"head\.bias holds numbers that are not finite"),
        (torch.zeros(3, dtype=torch.int64), r"'head\.bias' must be of floating-point numbers, got torch\.int64"),
        (
            torch.zeros(3).to(torch.float8_e4m3fn),
            r"'head\.bias' must be of float64, float32, float16, bfloat16, got torch\.float8_e4m3fn: convert",
        ),
        ([1, 2, 3], r"'head\.bias' must be a tensor, got list"),
        (torch.zeros(3).to_sparse(), r"'head\.bias' must be a plain tensor with all its values in the file"),
    ])  # fmt: skip
    def test_what_is_no_weight_is_named_by_its_key(
        self, arch: ArchConfig, tmp_path: Path, value: Any, problem: str
    ) -> None:
        torch.save({"model": public_state(arch) | {"head.bias": value}}, tmp_path / "w.pth")
        with pytest.raises(UserError, match=rf"w\.pth: {problem}"):
            load_public(tmp_path / "w.pth", arch)

    def test_a_packed_checkpoint_is_refused(self, arch: ArchConfig, tmp_path: Path) -> None:
        torch.save({"model": public_state(arch)}, tmp_path / "w.pth")
        with (
            zipfile.ZipFile(tmp_path / "w.pth") as plain,
            zipfile.ZipFile(tmp_path / "p.pth", "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for name in plain.namelist():
                packed.writestr(name, plain.read(name))
        with pytest.raises(
            UserError, match=r"p\.pth: not a checkpoint that can be read safely: .* in it is compressed"
        ):
            load_public(tmp_path / "p.pth", arch)
