"""Published variants are recognised by the shapes of their weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import PUBLISHED, preset
from sret_nas.errors import UserError
from sret_nas.nn.public_checkpoints import PublicCheckpoint, public_shapes
from sret_nas.nn.public_variants import recognise


def checkpoint(arch: ArchConfig, args: dict[str, Any] | None = None, **changes: Any) -> PublicCheckpoint:
    """Returns a checkpoint of an architecture, without values: shapes are all that is looked at."""
    state = {name: torch.empty(shape, device="meta") for name, shape in public_shapes(arch).items()} | changes
    return PublicCheckpoint(state=state, args=args or {}, architecture=None, source="sret.pth")


@pytest.mark.parametrize("name", PUBLISHED)
class TestPublishedVariants:
    def test_a_name_given_by_the_user_decides(self, name: str) -> None:
        found = recognise(checkpoint(preset(name)), name)
        assert found.arch == preset(name)
        assert found.variant == name

    def test_the_default_is_what_was_published_for_the_size(self, name: str) -> None:
        found = recognise(checkpoint(preset(name)))
        arch = preset(name)
        assert (found.arch.image_size, found.arch.classes) == (arch.image_size, arch.classes)
        sliced = found.arch.stages[0].groups[0] > 1
        assert sliced == (arch.image_size == 224)
        assert ("assumed sliced" if sliced else "assumed unsliced") in found.reason
        assert found.arch in PUBLISHED.values()

    def test_classes_and_channels_are_those_of_the_weights(self, name: str) -> None:
        arch = preset(name).model_copy(update={"classes": 7, "channels": 1})
        assert recognise(checkpoint(arch), name).arch == arch


class TestGroups:
    @pytest.mark.parametrize(("public", "expected"), [
        ("SReT_T", "sret_t"),
        ("SReT_T_wo_slice", "sret_t_unsliced"),
        ("SReT_T_distill", "sret_t"),
        ("SReT_T_wo_slice_finetune_384", "sret_t_unsliced"),
    ])  # fmt: skip
    def test_the_files_arguments_decide(self, public: str, expected: str) -> None:
        found = recognise(checkpoint(preset("sret_t"), {"model": public}))
        assert (found.variant, found.arch) == (expected, preset(expected))
        assert public in found.reason

    def test_an_unknown_name_in_the_arguments_is_no_answer(self) -> None:
        assert "assumed sliced" in recognise(checkpoint(preset("sret_t"), {"model": "deit_tiny"})).reason

    def test_arguments_of_another_variant_are_refused(self) -> None:
        with pytest.raises(UserError, match=r"does not fit the public SReT_S, .*pos_embed must have the shape"):
            recognise(checkpoint(preset("sret_t"), {"model": "SReT_S"}))

    def test_all_alternatives_are_named(self) -> None:
        assert recognise(checkpoint(preset("sret_lt"))).reason.endswith("--variant sret_lt_unsliced or sret_lt_16_14_1")

    def test_an_architecture_in_the_file_decides(self) -> None:
        arch = preset("sret_lt_16_14_1")
        found = recognise(checkpoint(arch)._replace(architecture=arch.to_dict()))
        assert (found.arch, found.variant) == (arch, "sret_lt_16_14_1")

    def test_a_size_that_shapes_cannot_tell_is_that_of_the_training(self) -> None:
        arch = preset("sret_t_unsliced").model_copy(update={"image_size": 220})
        assert recognise(checkpoint(arch, {"input_size": 220})).arch.image_size == 220
        assert recognise(checkpoint(arch, {"input_size": 384})).arch.image_size == 224


class TestOtherNetworks:
    def test_what_does_not_fit_is_named(self) -> None:
        other = checkpoint(preset("sret_t"), extra=torch.zeros(1), **{"norm.bias": torch.zeros(3)})
        del other.state["pools.0.conv.weight"]
        with pytest.raises(UserError) as error:
            recognise(other)
        assert str(error.value).startswith(
            "sret.pth fits no published variant; compared with sret_t: it lacks pools.0.conv.weight; it holds the "
            "unknown extra; norm.bias must have the shape (256,), got (3,); "
        )

    @pytest.mark.parametrize(("key", "value"), [
        ("head.bias", torch.zeros(())), ("head.bias", torch.zeros(0)), ("pos_embed", torch.zeros(3)),
        ("pos_embed", torch.zeros(1, 64, 28, 9999)), ("patch_embed.conv1.weight", torch.zeros(32, 0, 3, 3)),
    ])  # fmt: skip
    def test_odd_shapes_are_named(self, key: str, value: torch.Tensor) -> None:
        with pytest.raises(UserError, match=rf"{key} must have the shape"):
            recognise(checkpoint(preset("sret_t"), **{key: value}))
