"""Class tokens: a network of one stage with them is DeiT, weight for weight, as timm builds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import Head, StageConfig, StemConfig
from sret_nas.nn.network import SReT
from tests.sret_nas.nn.conftest import trained_network

torch.set_num_threads(1)


def deit(head: Head, **changes: int) -> ArchConfig:
    stage = StageConfig(width=12, heads=3, blocks=2, recursions=1, groups=(1,), nll="none", mlp_ratio=2.0)
    stem = StemConfig(width=6, kind="patch", strides=(2, 2, 2))
    values = {"image_size": 24, "classes": 5, **changes}
    return ArchConfig(stages=(stage,), stem=stem, residual="plain", head=head, **values)


def ours_from_timm(state: dict[str, Tensor], tokens: int) -> dict[str, Tensor]:
    """Returns the weights of timm's DeiT under our names."""
    embedding, position = state.pop("cls_token"), state.pop("pos_embed")
    if tokens == 2:
        embedding = torch.cat((embedding, state.pop("dist_token")), dim=1)
    side = int((position.shape[1] - tokens) ** 0.5)
    renamed = {
        "class_tokens.embedding": embedding,
        "class_tokens.position": position[:, :tokens],
        "pos_embed": position[:, tokens:].transpose(1, 2).reshape(1, -1, side, side),
    }
    for name, tensor in state.items():
        renamed[name.replace("patch_embed.proj", "stem.proj").replace("blocks.", "stages.0.blocks.")] = tensor
    return renamed


@pytest.mark.parametrize(
    ("head", "model", "tokens"),
    [("class_token", VisionTransformer, 1), ("distillation_token", VisionTransformerDistilled, 2)],
)
def test_logits_are_those_of_timms_deit(head: Head, model: type[VisionTransformer], tokens: int) -> None:
    torch.manual_seed(0)
    theirs = model(img_size=24, patch_size=8, embed_dim=12, depth=2, num_heads=3, mlp_ratio=2.0, num_classes=5).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # new ones have zeros for biases and heads
            parameter.add_(0.2 * torch.randn_like(parameter))
    network = SReT(deit(head)).eval()
    network.load_state_dict(ours_from_timm(theirs.state_dict(), tokens))
    images = torch.randn(3, 3, 24, 24)
    with torch.no_grad():
        assert torch.allclose(network(images), theirs(images), atol=1e-5)
        normed = network.norm(network.forward_features(images))
        assert torch.allclose(normed, theirs.forward_features(images), atol=1e-5)


@pytest.mark.parametrize("head", ["class_token", "distillation_token"])
class TestHead:
    def test_a_file_holds_it(self, head: Head, tmp_path: Path) -> None:
        network = trained_network(deit(head))
        network.save(tmp_path / "n.sret")
        images = torch.randn(2, 3, 24, 24)
        with torch.no_grad():
            assert torch.equal(SReT.load(tmp_path / "n.sret").eval()(images), network(images))

    def test_other_classes_get_new_heads_and_keep_the_tokens(self, head: Head) -> None:
        network = trained_network(deit(head))
        other = network.adapted_to(deit(head, classes=7), "a", "b")
        assert other.class_tokens is not None
        assert network.class_tokens is not None
        assert torch.equal(other.class_tokens.embedding, network.class_tokens.embedding)
        assert other(torch.randn(2, 3, 24, 24)).shape == (2, 7)

    def test_features_of_the_last_stage_are_the_pixels(self, head: Head) -> None:
        network = trained_network(deit(head))
        last, found = network.forward_intermediates(torch.randn(2, 3, 24, 24))
        assert found[0].shape == (2, 12, 3, 3)
        assert torch.equal(found[0].flatten(2).transpose(1, 2), last[:, network.arch.class_tokens :])


def test_class_tokens_join_before_the_last_stage_alone() -> None:
    first = StageConfig(width=8, heads=2, blocks=1, recursions=2, groups=(4, 2), mlp_ratio=1.0)
    last = StageConfig(width=12, heads=3, blocks=1, recursions=2, groups=(1, 1), mlp_ratio=1.0)
    network = trained_network(ArchConfig(stages=(first, last), image_size=32, classes=3, head="class_token"))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert network.run_stage(0, network.embed(images)).shape == (2, 8, 4, 4)
        assert network.forward_features(images).shape == (2, 1 + 4, 12)
        # Logits depend on the class token alone, and it has seen every pixel.
        changed = images.clone()
        changed[:, :, -1, -1] += 10
        assert not torch.allclose(network(images), network(changed))
