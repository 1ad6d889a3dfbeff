"""Stems: the shape of their features for every size, their norms, and patches that do not divide the image."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig, StemConfig, StemNorm
from sret_nas.nn.network import SReT
from sret_nas.nn.stem import PixelNorm, batch_norms, pad_to_patches, stem_of

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("kind", "strides", "side"), list(product(("conv", "patch"), [(2, 2, 2), (1, 2, 1)], (16, 17, 23)))
)
def test_features_have_the_side_of_the_architecture(kind: str, strides: tuple[int, int, int], side: int) -> None:
    stem = StemConfig.model_validate({"width": 3, "kind": kind, "strides": strides})
    stage = StageConfig(width=4, heads=1, blocks=1, recursions=1, groups=(1,))
    arch = ArchConfig(stages=(stage,), stem=stem, image_size=side)
    features = stem_of(stem, 3, 4).eval()(torch.randn(2, 3, side, side))
    assert features.shape == (2, 4, arch.resolutions[0], arch.resolutions[0])


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("layer", PixelNorm), ("none", nn.Identity)])
def test_norms(norm: StemNorm, kind: type[nn.Module]) -> None:
    stem = stem_of(StemConfig(width=3, norm=norm), 3, 4)
    assert {type(module) for module in stem.norms} == {kind}
    assert len(batch_norms(stem)) == (3 if norm == "batch" else 0)


def test_a_pixel_norm_normalises_the_channels_of_each_pixel() -> None:
    features = torch.randn(2, 5, 3, 4) * 7 + 3
    normed = PixelNorm(5)(features)
    assert torch.allclose(normed.mean(dim=1), torch.zeros(2, 3, 4), atol=1e-5)
    assert torch.allclose(normed.std(dim=1, unbiased=False), torch.ones(2, 3, 4), atol=1e-3)


def test_a_patch_that_does_not_fit_is_filled_with_zeros() -> None:
    padded = pad_to_patches(torch.ones(1, 1, 5, 8), 4)
    assert padded.shape == (1, 1, 8, 8)
    assert padded[..., :5, :].eq(1).all()
    assert padded[..., 5:, :].eq(0).all()


def test_a_network_without_batch_norm_does_not_depend_on_the_rest_of_the_batch() -> None:
    stage = StageConfig(width=4, heads=1, blocks=1, recursions=1, groups=(1,))
    network = SReT(ArchConfig(stages=(stage,), stem=StemConfig(width=2, norm="layer"), image_size=16, classes=3))
    images = torch.randn(4, 3, 16, 16)
    assert torch.allclose(network.train()(images)[:1], network(images[:1]), atol=1e-6)
