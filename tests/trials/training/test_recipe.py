"""The proxy network of a target, and the length of a run."""

from __future__ import annotations

import random

import pytest

from sret_nas import PRESETS
from tests.architectures import random_arch
from trials.training.recipe import ProxyConfig, TrainingConfig, proxy_arch

SHORT = TrainingConfig(images=64)


def test_the_proxy_keeps_the_shape_and_changes_what_it_says() -> None:
    target = PRESETS["sret_t"]
    proxy = proxy_arch(target, ProxyConfig(image_size=48, width_scale=0.5, training=SHORT), channels=1, classes=10)
    assert (proxy.image_size, proxy.channels, proxy.classes, proxy.drop_path) == (48, 1, 10, 0.0)
    assert [stage.width for stage in proxy.stages] == [32, 64, 128]
    assert proxy.stem.width == 16
    unchanged = ("heads", "blocks", "recursions", "groups", "loop", "nll", "nll_ratio", "mlp_ratio")
    for ours, theirs in zip(proxy.stages, target.stages, strict=True):
        assert [getattr(ours, name) for name in unchanged] == [getattr(theirs, name) for name in unchanged]


def test_a_proxy_of_full_width_has_the_target_s_widths() -> None:
    target = PRESETS["sret_s"]
    proxy = proxy_arch(target, ProxyConfig(width_scale=1.0, training=SHORT), channels=3, classes=10)
    assert [stage.width for stage in proxy.stages] == [126, 252, 504]


@pytest.mark.parametrize("name", ["deit_tiny_x2", "sret_t"])
def test_the_proxy_keeps_the_variants(name: str) -> None:
    target = PRESETS[name].model_copy(update={"residual": "branch"})
    target = target.model_copy(update={"stages": tuple(s.model_copy(update={"inverse": False}) for s in target.stages)})
    proxy = proxy_arch(target, ProxyConfig(image_size=48, width_scale=0.5, training=SHORT), channels=1, classes=10)
    assert (proxy.variants, proxy.stem.variants) == (target.variants, target.stem.variants)
    assert [stage.variants for stage in proxy.stages] == [{"inverse": False}] * len(target.stages)


@pytest.mark.parametrize("seed", range(50))
def test_every_target_has_a_legal_proxy_at_every_scale(seed: int) -> None:
    rng = random.Random(seed)
    target = random_arch(rng)
    config = ProxyConfig(image_size=16, width_scale=rng.uniform(0.01, 1), training=SHORT)
    proxy = proxy_arch(target, config, channels=1, classes=2)
    assert all(stage.width % stage.heads == 0 and stage.width > 0 for stage in proxy.stages)


@pytest.mark.parametrize(
    ("images", "batch_size", "num_train", "steps"),
    [(1000, 64, 5000, 15), (1000, 64, 10, 100), (10, 64, 5000, 1), (128, 64, 64, 2)],
)
def test_steps_are_images_over_the_batch_that_fits(images: int, batch_size: int, num_train: int, steps: int) -> None:
    assert TrainingConfig(images=images, batch_size=batch_size).num_steps(num_train) == steps
