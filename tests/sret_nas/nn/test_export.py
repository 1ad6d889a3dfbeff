"""Exports: what others run of them equals the network, for any architecture, batch and recursion depth."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import Head, Residual, StemKind, StemNorm
from sret_nas.errors import UserError
from sret_nas.nn import export
from sret_nas.nn.export import cut_recursions, trace, write_onnx, write_openvino, write_torch_export
from sret_nas.nn.exported_info import ExportedInfo
from sret_nas.nn.exported_model import open_exported
from tests import REPOSITORY
from tests.architectures import random_stage
from tests.covering import smallest_cover
from tests.full_disk import largest_file
from tests.sret_nas.nn.conftest import Exported, largest_difference, trained_network

torch.set_num_threads(1)


def test_onnxruntime_alone_gives_the_network_s_logits(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.onnx, providers=["CPUExecutionProvider"])
    assert [(one.name, one.shape) for one in session.get_inputs()] == [("images", ["batch", 3, 33, 33])]
    assert [(one.name, one.shape) for one in session.get_outputs()] == [("logits", ["batch", 5])]
    for number in (1, 7):
        images = exported.images(number)
        (logits,) = session.run(None, {"images": images.numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(logits, exported.network(images).numpy(), atol=1e-5)


def test_torch_alone_gives_the_network_s_logits(exported: Exported) -> None:
    module = torch.export.load(exported.pt2).module()
    for number in (1, 7):
        assert largest_difference(module, exported.network, exported.images(number)) < 1e-6


@pytest.mark.parametrize("name", ["pt2", "onnx", "xml"])
def test_an_exported_file_is_read_back_with_what_is_known_of_it(exported: Exported, name: str) -> None:
    model = open_exported(getattr(exported, name), threads=1)
    assert model.info == exported.info
    assert model.input_shape == (None, 3, 33, 33)
    for number in (1, 7):
        assert largest_difference(model.run, exported.network, exported.images(number)) < 1e-5


def test_no_file_names_folders_of_this_machine(exported: Exported) -> None:
    for path in exported.onnx.parent.iterdir():
        content = path.read_bytes()
        for folder in (str(REPOSITORY), str(Path(torch.__file__).parent), str(path.parent)):
            assert folder.encode() not in content, path


@pytest.mark.slow
def test_onnx_is_valid_and_its_opset_decides_how_attention_is_written(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second file has its weights beside it, as those above 2 GB."""
    monkeypatch.setattr(export, "MAX_SINGLE_FILE", 1000)
    stage = {"width": 8, "heads": 2, "blocks": 1, "recursions": 1, "groups": [3]}
    arch = ArchConfig.from_dict({"stages": [stage], "image_size": 24, "classes": 3})
    network, info = trained_network(arch), ExportedInfo(architecture=arch)
    write_onnx(trace(network), tmp_path / "m.onnx", info, 23)
    for path, opset, has_attention in ((exported.onnx, 20, False), (tmp_path / "m.onnx", 23, True)):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert [entry.version for entry in model.opset_import if entry.domain == ""] == [opset]
        assert ("Attention" in {node.op_type for node in model.graph.node}) == has_attention
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.onnx.data"}
    opened = open_exported(tmp_path / "m.onnx", threads=1)
    assert opened.info == info
    assert largest_difference(opened.run, network, torch.randn(7, 3, 24, 24)) < 1e-5


@pytest.mark.parametrize("opset", [17, 26])
def test_an_opset_that_is_not_supported_is_refused(exported: Exported, tmp_path: Path, opset: int) -> None:
    with pytest.raises(UserError, match=f"--opset must be from 18 to 25, got {opset}"):
        write_onnx(exported.program, tmp_path / "m.onnx", exported.info, opset)


def test_a_missing_library_is_named_with_what_to_install() -> None:
    with pytest.raises(UserError, match="needs onnx_of_tomorrow, which is not installed: pip install"):
        export.require("onnx_of_tomorrow")


def test_a_full_disk_is_an_operating_system_s_error(exported: Exported, tmp_path: Path) -> None:
    with largest_file(20_000):
        with pytest.raises(OSError, match=r"too large: .*/m\.pt2"):
            write_torch_export(exported.program, tmp_path / "m.pt2", exported.info)
        with pytest.raises(OSError, match=r"model\.xml"):
            write_openvino(exported.onnx, tmp_path / "model.xml", exported.info)


@pytest.mark.parametrize("nll", ["every", "between", "last", "none"])
@pytest.mark.parametrize("limit", [1, 2, (1, 2), (3, 1)])
def test_a_network_cut_to_fewer_recursions_computes_what_the_network_does_at_that_depth(
    nll: str, limit: int | tuple[int, int]
) -> None:
    stage = {"width": 8, "heads": 2, "blocks": 2, "recursions": 3, "groups": [2, 3, 1], "nll": nll}
    arch = ArchConfig.from_dict({"stages": [stage, stage], "image_size": 32, "classes": 3})
    network = trained_network(arch)
    shallow = cut_recursions(network, limit)
    assert shallow.arch == arch.with_max_recursions(limit)
    assert not shallow.training
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(shallow(images), network(images, max_recursions=limit), rtol=0, atol=0)


@pytest.mark.parametrize("limit", [0, (1,), (1, 1, 1), (1, 0)])
def test_limits_that_do_not_fit_are_refused(exported: Exported, limit: int | tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="recursions must be one positive number, or one for each of the 2 stages"):
        cut_recursions(exported.network, limit)


OPSETS = (18, 20, 23, 25)
CANDIDATES = 3000
"""Random architectures, each with an opset, of which some are exported."""
MAX_BLOCKS_RUN = 3
"""Most blocks that a candidate runs: an export takes its time by them, and as long for three as for the rest."""


def _random_arch(rng: random.Random) -> ArchConfig | None:
    """Returns a random architecture with any variant of every part; None if it is too large or the parts do not fit."""
    head = rng.choice(get_args(Head))
    stages = []
    for _ in range(rng.choice([1, 2, 3])):
        variants = {name: rng.random() < 0.5 for name in ("permute", "inverse", "permute_single")}
        stages.append({**random_stage(rng, max_width=16).model_dump(mode="json"), **variants})
    if head != "average":
        stages[-1]["groups"] = [1] * stages[-1]["recursions"]
    if sum(stage["blocks"] * stage["recursions"] for stage in stages) > MAX_BLOCKS_RUN:
        return None
    stem = {
        "width": rng.randint(1, 16), "strides": rng.choice([(2, 2, 2), (1, 2, 2)]),
        "kind": rng.choice(get_args(StemKind)), "norm": rng.choice(get_args(StemNorm)),
    }  # fmt: skip
    try:
        return ArchConfig.from_dict(
            {
                "stages": stages, "stem": stem, "head": head, "residual": rng.choice(get_args(Residual)),
                "image_size": rng.choice([16, 33, 40]), "channels": rng.choice([1, 3]), "classes": rng.randint(2, 20),
            }
        )  # fmt: skip
    except UserError:
        return None


def _features(arch: ArchConfig, opset: int) -> set[tuple[Any, ...]]:
    """Returns what an export tries. Slices come with whether attention is one operator in the opset."""
    found: set[tuple[Any, ...]] = {
        ("stages", len(arch.stages)), ("stem", arch.stem.kind), ("norm", arch.stem.norm), ("head", arch.head),
        ("residual", arch.residual), ("channels", arch.channels), ("opset", opset),
    }  # fmt: skip
    for stage, tokens in zip(arch.stages, arch.num_tokens, strict=True):
        recurs = stage.recursions > 1
        found |= {("recursions", stage.recursions), ("nll", stage.nll, recurs), ("loop", stage.loop)}
        permuted = any(stage.permutes(recursion, tokens) for recursion in range(stage.recursions))
        found |= {("several blocks recur", recurs and stage.blocks > 1), ("permuted", permuted, stage.inverse)}
        for groups in stage.groups:
            kind = "one" if groups == 1 else "of one token" if groups >= tokens else tokens % groups == 0
            found.add(("slices", kind, opset >= 23))
    return found


def _exported_archs() -> list[tuple[ArchConfig, int]]:
    """Returns architectures and opsets that together have every feature of all candidates."""
    rng, drawn = random.Random(0), list[tuple[ArchConfig, int]]()
    while len(drawn) < CANDIDATES:
        arch = _random_arch(rng)
        if arch is not None:
            drawn.append((arch, rng.choice(OPSETS)))
    costs = [sum(stage.blocks * stage.recursions for stage in arch.stages) + 4.0 for arch, _ in drawn]
    return [drawn[index] for index in smallest_cover([_features(*one) for one in drawn], costs)]


@pytest.mark.slow
def test_any_architecture_exports(tmp_path: Path) -> None:
    for seed, (arch, opset) in enumerate(_exported_archs()):
        network = trained_network(arch, seed)
        info = ExportedInfo(architecture=arch)
        program = trace(network)
        write_torch_export(program, tmp_path / "m.pt2", info)
        write_onnx(program, tmp_path / "m.onnx", info, opset)
        for name in ("m.pt2", "m.onnx"):
            model = open_exported(tmp_path / name, threads=1)
            for number in (1, 2, 7):
                images = torch.randn(number, arch.channels, arch.image_size, arch.image_size)
                assert largest_difference(model.run, network, images) < 1e-4, (arch, opset, name, number)
