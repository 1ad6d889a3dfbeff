"""A network in every exported format, written once for all tests of exports, and files of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.nn.export import trace, write_onnx, write_openvino, write_torch_export
from sret_nas.nn.exported_info import ExportedInfo
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.nn.network import SReT
from tests.sret_nas.nn.small_weights import TRAINING, network, supernet

EXPORTED_ARCH = ArchConfig.from_dict(
    {
        "stages": [
            {
                "width": 12, "heads": 3, "blocks": 2, "recursions": 2, "groups": [3, 7], "loop": "external",
                "nll": "between", "mlp_ratio": 2.0,
            },
            {"width": 10, "heads": 2, "blocks": 1, "recursions": 3, "groups": [1, 2, 1], "nll": "last"},
        ],
        "image_size": 33,
        "channels": 3,
        "classes": 5,
        "drop_path": 0.1,
    }
)  # fmt: skip
"""Groups that do not divide the 25 tokens, an external loop, a stage that is not a multiple of the first."""


@dataclass(frozen=True)
class Exported:
    network: SReT
    info: ExportedInfo
    program: torch.export.ExportedProgram
    pt2: Path
    onnx: Path
    xml: Path

    def images(self, number: int) -> Tensor:
        arch = self.network.arch
        return torch.randn(number, arch.channels, arch.image_size, arch.image_size)


def trained_network(arch: ArchConfig, seed: int = 0) -> SReT:
    """Returns a network whose every weight matters: new ones have zeros for biases and ones for coefficients."""
    torch.manual_seed(seed)
    network = SReT(arch).eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    return network


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    info = ExportedInfo(
        architecture=EXPORTED_ARCH,
        preprocessing=Preprocessing(image_size=33, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1), crop_fraction=0.875),
        class_names=("cat", 'a "dog"', "é", "4", "5"),
    )
    network = trained_network(EXPORTED_ARCH)
    program = trace(network)
    result = Exported(network, info, program, *(folder / name for name in ("m.pt2", "m.onnx", "model.xml")))
    write_torch_export(program, result.pt2, info)
    write_onnx(program, result.onnx, info, 20)
    write_openvino(result.onnx, result.xml, info)
    return result


def largest_difference(run: Callable[[Tensor], Tensor], network: SReT, images: Tensor) -> float:
    """Returns the largest difference of logits over the largest logit."""
    with torch.inference_mode():
        expected, got = network(images), run(images)
    assert got.shape == expected.shape
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    network().save(tmp_path / "network.safetensors")
    return tmp_path / "network.safetensors"


@pytest.fixture
def supernet_file(tmp_path: Path) -> Path:
    supernet().save(tmp_path / "supernet.safetensors", TRAINING)
    return tmp_path / "supernet.safetensors"
