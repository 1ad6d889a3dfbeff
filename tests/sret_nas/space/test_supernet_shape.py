"""What a supernet must hold: neither less than every network of a space, nor more, and what is refused."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import Head, Residual, StageConfig, StemConfig
from sret_nas.arch.presets import PRESETS, preset
from sret_nas.errors import UserError
from sret_nas.space.choices import StemChoice
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import StageShape, SupernetShape, bounding_shape, nll_recursions
from tests.counted_spaces import space_of
from trials.training.recipe import ProxyConfig, TrainingConfig, proxy_arch

Adapted = Callable[[ArchConfig], ArchConfig]


def proxies(width_scale: float) -> Adapted:
    """Adapts a network as trials do: another input, and perhaps fewer channels per head."""
    proxy = ProxyConfig(image_size=19, width_scale=width_scale, training=TrainingConfig(images=2))
    return lambda arch: proxy_arch(arch, proxy, channels=1, classes=4)


def unchanged(arch: ArchConfig) -> ArchConfig:
    return arch


def every_stage(space: SearchSpace, number: int, adapted: Adapted) -> list[ArchConfig]:
    """Returns one network for each distinct stage at a position, cut to each of its depths."""
    rows = [0] * len(space.stages)
    networks = []
    for row in range(len(space.stage_tables[number])):
        rows[number] = row
        for variants in product(space.stem.stems, space.residual, space.head):
            network = adapted(space.network(rows, *variants))
            depths = range(1, network.stages[number].recursions + 1)
            networks += [network.with_max_recursions(depth) for depth in depths]
    return networks


def brute_force_shape(space: SearchSpace, adapted: Adapted) -> SupernetShape:
    """Computes the shape by brute force over all stages."""
    places = [every_stage(space, number, adapted) for number in range(len(space.stages))]
    stages = []
    for number, networks in enumerate(places):
        found = [network.stages[number] for network in networks]
        stages.append(
            StageShape(
                widths=tuple(sorted({stage.width for stage in found})),
                blocks=max(stage.blocks for stage in found),
                mlp_hidden=max(stage.mlp_hidden for stage in found),
                nll_recursions=tuple(sorted({after for stage in found for after in followed(stage)})),
                nll_hidden=max([stage.nll_hidden for stage in found if stage.num_nlls] or [0]),
            )
        )
    some = places[0][0]
    stems = [network.stem.canonical(network.stages[0].width) for network in places[0]]
    convolutions = [stem for stem in stems if stem.kind == "conv"] or stems
    return SupernetShape(
        stages=tuple(stages),
        stem_width=max(stem.width for stem in convolutions),
        strides=convolutions[0].strides,
        residual=tuple(dict.fromkeys(network.residual for network in places[0])),
        head=tuple(dict.fromkeys(network.head for network in places[0])),
        stem_kind=tuple(dict.fromkeys(stem.kind for stem in stems)),
        stem_norm=tuple(dict.fromkeys(stem.norm for stem in convolutions)),
        image_size=some.image_size,
        channels=some.channels,
        classes=some.classes,
    )


def followed(stage: StageConfig) -> list[int]:
    return [recursion for recursion in range(stage.recursions) if stage.nll_after(recursion) is not None]


def choose(values: list[Any], most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


STAGES = st.fixed_dictionaries(
    {
        "width": choose([4, 6, 8, 10, 12], 3),
        "heads": choose([1, 2, 3], 2).map(lambda heads: sorted({1, *heads})),
        "blocks": choose([1, 2, 3], 2),
        "recursions": choose([1, 2, 3], 2),
        "nll": choose(["every", "between", "last", "none"], 2),
        "nll_ratio": choose([0.5, 1.0, 1.5], 2),
        "mlp_ratio": choose([1.0, 1.01, 2.0], 2),
    }
).filter(
    lambda stage: all(any(width % heads == 0 for width in stage["width"]) for heads in stage["heads"])
)  # fmt: skip
SPACES = st.builds(
    lambda stages, stem, residual, head: space_of(*stages, stem=stem, residual=residual, head=head),
    st.lists(STAGES, min_size=1, max_size=3),
    st.sampled_from(
        [
            {}, {"width": [2, 5], "strides": [1, 2, 2]}, {"kind": "patch", "strides": [1, 4, 2]},
            {"width": [1, 2], "strides": [1, 2, 2], "kind": ["patch", "conv"], "norm": ["none", "layer"]},
            {"kind": ["conv", "patch"]}, {"norm": ["layer", "batch"]},
        ]
    ),
    st.sampled_from(["path", "plain", ["branch", "plain"], ["plain", "branch", "path"]]),
    st.sampled_from(["average", ["average", "class_token"], ["distillation_token", "class_token"]]),
)  # fmt: skip
ADAPTATIONS = st.sampled_from([unchanged, proxies(1.0), proxies(0.5)])


class TestExtentOf:
    @pytest.mark.slow
    @settings(max_examples=40)
    @given(SPACES, ADAPTATIONS)
    def test_is_the_most_that_occurs_and_no_more(self, space: SearchSpace, adapted: Adapted) -> None:
        assert bounding_shape(space, adapted=adapted) == brute_force_shape(space, adapted)

    @pytest.mark.slow
    @settings(max_examples=40)
    @given(SPACES, ADAPTATIONS, st.randoms(use_true_random=False))
    def test_holds_every_network_at_every_depth(
        self, space: SearchSpace, adapted: Adapted, rng: random.Random
    ) -> None:  # fmt: skip
        shape = bounding_shape(space, adapted=adapted)
        for _ in range(5):
            arch = adapted(space.network(*drawn(space, rng)))
            for depth in range(1, arch.max_recursions + 1):
                shape.check(arch.with_max_recursions(depth))

    def test_of_sret_tiny(self) -> None:
        shape = bounding_shape(SearchSpace.load("sret_tiny"))
        assert shape == SupernetShape(
            stages=(
                StageShape(widths=(32, 48, 64), blocks=3, mlp_hidden=256, nll_recursions=(0, 1, 2), nll_hidden=64),
                StageShape(
                    widths=(64, 96, 128, 160), blocks=5, mlp_hidden=640, nll_recursions=(0, 1, 2), nll_hidden=160
                ),
                StageShape(
                    widths=(128, 192, 256, 320), blocks=3, mlp_hidden=1280, nll_recursions=(0, 1, 2), nll_hidden=320
                ),
            ),
            stem_width=32, strides=(2, 2, 2), image_size=224, channels=3, classes=1000,
        )  # fmt: skip
        assert shape.side == 28

    def test_holds_the_published_networks(self) -> None:
        for name, space in (("sret_t", "sret_tiny"), ("sret_lt_16_14_1", "sret_tiny"), ("sret_s", "sret_small")):
            bounding_shape(SearchSpace.load(space)).check(preset(name))

    def test_every_depth_of_a_last_nll_has_its_own(self) -> None:
        shape = bounding_shape(space_of({"nll": ["last"], "recursions": [3]}))
        assert shape.stages[0].nll_recursions == (0, 1, 2)

    def test_without_nlls_there_is_nothing_to_hold(self) -> None:
        shape = bounding_shape(space_of({"nll": ["none"], "recursions": [3], "nll_ratio": [2.0]}))
        assert (shape.stages[0].nll_recursions, shape.stages[0].nll_hidden) == ((), 0)

    @pytest.mark.parametrize("name", PRESETS)
    @pytest.mark.parametrize("strides", [(2, 2, 2), (1, 2, 1)])
    def test_side_is_that_of_the_first_stage(self, name: str, strides: tuple[int, int, int]) -> None:
        arch = preset(name).model_copy(update={"image_size": 37, "stem": StemConfig(width=8, strides=strides)})
        shape = SHAPE.model_copy(update={"image_size": 37, "strides": strides})
        assert shape.side == arch.resolutions[0]


def drawn(space: SearchSpace, rng: random.Random) -> tuple[list[int], StemChoice, Residual, Head]:
    """Returns the rows of a random network, its stem, its residual connections, and its head."""
    rows = [rng.randrange(len(table)) for table in space.stage_tables]
    return rows, rng.choice(space.stem.stems), rng.choice(space.residual), rng.choice(space.head)


class TestNLLRecursions:
    @pytest.mark.parametrize(
        ("nll", "recursions"), list(product(["every", "between", "last", "none"], range(1, 5)))
    )  # fmt: skip
    def test_are_those_that_a_stage_applies_its_nlls_after(self, nll: Any, recursions: int) -> None:
        stage = StageConfig(width=4, heads=1, blocks=2, recursions=recursions, groups=(1,) * 4, nll=nll)
        applied = {stage.nll_after(recursion): recursion for recursion in range(recursions)}
        applied.pop(None, None)
        assert dict(enumerate(nll_recursions(stage))) == applied
        assert len(nll_recursions(stage)) == stage.num_nlls


def stage_extent(**changes: Any) -> StageShape:
    return StageShape.model_validate(
        {"widths": (8, 12), "blocks": 2, "mlp_hidden": 24, "nll_recursions": (0,), "nll_hidden": 12} | changes
    )


SHAPE = SupernetShape(
    stages=(stage_extent(), stage_extent(widths=(16,), mlp_hidden=32, nll_hidden=16)),
    stem_width=6, strides=(2, 2, 2), image_size=40, channels=3, classes=10,
)  # fmt: skip


def held_arch(stage: dict[str, Any] | None = None, **changes: Any) -> ArchConfig:
    """A network of `SHAPE` with changes of its second stage, and others."""
    shape: dict[str, Any] = {"heads": 2, "blocks": 2, "recursions": 2, "groups": (1, 1), "nll": "between"}
    first = StageConfig(width=12, mlp_ratio=2.0, **shape)
    second = StageConfig.model_validate({"width": 16, "mlp_ratio": 2.0} | shape | (stage or {}))
    fields = {"stages": (first, second), "stem": StemConfig(width=6), "image_size": 40, "classes": 10}
    return ArchConfig.model_validate(fields | changes)


class TestCheck:
    @pytest.mark.parametrize(
        "arch",
        [
            held_arch(),
            held_arch(drop_path=0.2),
            held_arch(stem=StemConfig(width=1)),
            held_arch({"heads": 16, "loop": "external", "groups": (4, 7)}),
            held_arch({"blocks": 1, "mlp_ratio": 0.5, "nll_ratio": 0.5}),
            held_arch({"recursions": 4, "groups": (1,) * 4, "nll": "none", "nll_ratio": 4.0}),
            held_arch({"recursions": 1, "nll": "every"}),
        ],
    )
    def test_holds(self, arch: ArchConfig) -> None:
        SHAPE.check(arch)

    @pytest.mark.parametrize(
        ("arch", "problem"),
        [
            (held_arch(channels=1), "channels must be 3, got 1"),
            (held_arch(classes=11), "classes must be 10, got 11"),
            (held_arch(image_size=41), "image size must be 40, got 41"),
            (held_arch(stem=StemConfig(width=6, strides=(1, 2, 2))), "strides must be (2, 2, 2), got (1, 2, 2)"),
            (held_arch(residual="plain"), "residual must be path, got plain"),
            (held_arch(stem=StemConfig(width=6, norm="layer")), "stem norm must be batch, got layer"),
            (held_arch(stem=StemConfig(width=6, kind="patch")), "stem kind must be conv, got patch"),
            (held_arch(stages=held_arch().stages[:1]), "there must be 2 stages, got 1"),
            (held_arch(stem=StemConfig(width=7)), "stem width must be at most 6, got 7"),
            (held_arch({"width": 12}), "width of stage 2 must be one of [16], got 12"),
            (held_arch({"blocks": 3}), "blocks of stage 2 must be at most 2, got 3"),
            (held_arch({"mlp_ratio": 2.07}), "mlp_hidden of stage 2 must be at most 32, got 33"),
            (held_arch({"nll_ratio": 1.5}), "nll_hidden of stage 2 must be at most 16, got 24"),
            (held_arch({"nll": "every"}), "there is no NLL after recursion 2 of stage 2"),
            (held_arch({"nll": "last"}), "there is no NLL after recursion 2 of stage 2"),
        ],
    )
    def test_refuses_by_rule_and_value(self, arch: ArchConfig, problem: str) -> None:
        beginning = f"the supernet does not hold the network {arch.arch_id} ({arch.summary()}): "
        with pytest.raises(UserError, match=f"^{re.escape(beginning + problem)}$"):
            SHAPE.check(arch)


def changed(stage: dict[str, Any] | None = None, **changes: Any) -> SupernetShape:
    """Returns `SHAPE` with changes of its first stage, and others."""
    stages = (SHAPE.stages[0].model_copy(update=stage or {}), SHAPE.stages[1])
    return SHAPE.model_copy(update={"stages": stages, **changes})


@pytest.mark.parametrize(
    ("listed", "widest"),
    [(("plain",), "plain"), (("plain", "branch"), "branch"), (("branch", "path", "plain"), "path")],
)
def test_the_residual_with_the_most_coefficients_holds_those_of_the_others(
    listed: tuple[Residual, ...], widest: Residual
) -> None:
    assert changed(residual=listed).widest_residual == widest


class TestLacks:
    @pytest.mark.parametrize(
        "other",
        [
            SHAPE,
            changed({"widths": (8,), "blocks": 1, "mlp_hidden": 1}),
            changed({"nll_recursions": (), "nll_hidden": 0}),
            changed(stem_width=1),
        ],
    )
    def test_nothing_of_a_smaller_one(self, other: SupernetShape) -> None:
        assert SHAPE.first_missing(other) is None

    @pytest.mark.parametrize(
        ("other", "problem"),
        [
            (changed(channels=1), "channels must be 3, got 1"),
            (changed(residual=("path", "plain")), "residual must be path, got plain"),
            (changed(stem_kind=("conv", "patch")), "stem kind must be conv, got patch"),
            (changed(stem_norm=("none", "batch")), "stem norm must be batch, got none"),
            (changed(head=("class_token",)), "head must be average, got class_token"),
            (changed(classes=9), "classes must be 10, got 9"),
            (changed(image_size=32), "image size must be 40, got 32"),
            (changed(strides=(1, 2, 2)), "strides must be (2, 2, 2), got (1, 2, 2)"),
            (changed(stages=SHAPE.stages[:1]), "there must be 2 stages, got 1"),
            (changed(stem_width=7), "stem width must be at most 6, got 7"),
            (changed({"widths": (8, 10, 12)}), "width of stage 1 must be one of [8, 12], got 10"),
            (changed({"nll_recursions": (0, 1)}), "there is no NLL after recursion 2 of stage 1"),
            (changed({"blocks": 3}), "blocks of stage 1 must be at most 2, got 3"),
            (changed({"mlp_hidden": 25}), "mlp_hidden of stage 1 must be at most 24, got 25"),
            (changed({"nll_hidden": 13}), "nll_hidden of stage 1 must be at most 12, got 13"),
        ],
    )
    def test_names_the_first_thing_that_is_missing(self, other: SupernetShape, problem: str) -> None:
        assert SHAPE.first_missing(other) == problem

    @pytest.mark.slow
    @settings(max_examples=40)
    @given(SPACES, SPACES)
    def test_agrees_with_the_check_of_every_network(self, space: SearchSpace, other: SearchSpace) -> None:
        shape = bounding_shape(space)
        is_refused = any(refuses(shape, arch) for arch in extreme_networks(other))
        assert (shape.first_missing(bounding_shape(other)) is not None) == is_refused


def extreme_networks(space: SearchSpace) -> Iterator[ArchConfig]:
    for number in range(len(space.stages)):
        yield from every_stage(space, number, unchanged)


def refuses(shape: SupernetShape, arch: ArchConfig) -> bool:
    try:
        shape.check(arch)
    except UserError:
        return True
    return False


class TestValidation:
    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"widths": ()}, "at least 1 item"),
            ({"widths": (12, 8)}, r"must ascend, got \[12, 8\]"),
            ({"widths": (8, 8)}, r"must ascend, got \[8, 8\]"),
            ({"widths": (0, 8)}, "greater than or equal to 1"),
            ({"nll_recursions": (1, 0)}, r"must ascend, got \[1, 0\]"),
            ({"nll_recursions": (-1,)}, "greater than or equal to 0"),
            ({"blocks": 0}, "greater than or equal to 1"),
            ({"depth": 1}, "Extra inputs"),
        ],
    )
    def test_what_no_space_has_is_refused(self, fields: dict[str, Any], problem: str) -> None:
        with pytest.raises(ValidationError, match=problem):
            stage_extent(**fields)

    def test_no_stages_are_refused(self) -> None:
        with pytest.raises(ValidationError, match="at least 1 item"):
            SupernetShape.model_validate(SHAPE.model_dump() | {"stages": ()})

    def test_strides_that_the_stem_does_not_have_are_refused(self) -> None:
        data = SHAPE.model_dump() | {"strides": (4, 2, 2)}
        with pytest.raises(ValidationError, match="strides of 3x3 convolutions must be 1 or 2"):
            SupernetShape.model_validate(data)
        assert SupernetShape.model_validate(data | {"stem_kind": "patch"}).side == 3

    def test_comes_back_from_plain_data(self) -> None:
        assert SupernetShape.model_validate(SHAPE.model_dump(mode="json")) == SHAPE
