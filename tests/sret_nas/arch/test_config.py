# ruff: noqa: E501 - the table of wrong inputs holds whole messages

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.arch.presets import PRESETS, preset
from sret_nas.arch.sizes import halved, hidden_width
from sret_nas.errors import ConfigError, UserError
from sret_nas.yaml_files import dump_yaml, parse_yaml
from tests.architectures import random_arch, varied_archs

ARCHS = st.integers(0, 2**32).map(lambda seed: random_arch(random.Random(seed)))


def stage(**changes: Any) -> StageConfig:
    values = {"width": 8, "heads": 2, "blocks": 2, "recursions": 2, "groups": (2, 1)} | changes
    return StageConfig(**values)


def arch(*stages: StageConfig, **changes: Any) -> ArchConfig:
    return ArchConfig(**({"stages": stages or (stage(),), "image_size": 32, "classes": 5} | changes))


class TestShapes:
    @pytest.mark.parametrize(
        ("width", "ratio", "expected"),
        [(64, 3.6, 230), (100, 0.29, 29), (126, 3.0, 378), (48, 3.6, 172), (10, 0.05, 0), (3, 1.0, 3), (5, 1.2, 6)],
    )
    def test_hidden_width(self, width: int, ratio: float, expected: int) -> None:
        assert hidden_width(width, ratio) == expected

    @given(st.integers(1, 4096))
    def test_halved_is_the_convolutions_output(self, size: int) -> None:
        assert halved(size) == (size + 2 * 1 - 3) // 2 + 1

    @pytest.mark.parametrize(
        ("image_size", "strides", "expected"),
        [(224, (2, 2, 2), (28, 14, 7)), (384, (2, 2, 2), (48, 24, 12)), (32, (1, 2, 2), (8, 4, 2)),
         (33, (2, 1, 1), (17, 9, 5)), (8, (2, 2, 2), (1, 1, 1))],
    )  # fmt: skip
    def test_resolutions(self, image_size: int, strides: tuple[Any, Any, Any], expected: tuple[int, ...]) -> None:
        network = arch(stage(), stage(), stage(), image_size=image_size, stem=StemConfig(width=4, strides=strides))
        assert network.resolutions == expected
        assert network.num_tokens == tuple(side**2 for side in expected)

    def test_stem_left_out_is_the_papers(self) -> None:
        assert arch(stage(width=8)).stem == StemConfig(width=4, strides=(2, 2, 2))
        assert arch(stage(width=1, heads=1)).stem.width == 1
        assert preset("sret_t").stem == StemConfig(width=32)


class TestStage:
    @pytest.mark.parametrize(
        ("loop", "expected"),
        [("internal", [(0, 0), (0, 1), (1, 0), (1, 1)]), ("external", [(0, 0), (1, 0), (0, 1), (1, 1)])],
    )
    def test_applications(self, loop: str, expected: list[tuple[int, int]]) -> None:
        assert stage(loop=loop).applications() == expected
        assert stage(loop=loop).applications(1) == [(0, 0), (1, 0)]

    @pytest.mark.parametrize(
        ("nll", "number", "after"),
        [("every", 3, [0, 1, 2]), ("between", 2, [0, 1, None]), ("last", 1, [None, None, 0]),
         ("none", 0, [None, None, None])],
    )  # fmt: skip
    def test_nlls(self, nll: str, number: int, after: list[int | None]) -> None:
        three = stage(recursions=3, groups=(1, 1, 1), nll=nll)
        assert three.num_nlls == number
        assert [three.nll_after(recursion) for recursion in range(3)] == after
        assert {index for index in after if index is not None} == set(range(number))

    @pytest.mark.parametrize(("nll", "after"), [("every", [0, 1]), ("between", [0, None]), ("last", [None, 0])])
    def test_nlls_of_fewer_recursions(self, nll: str, after: list[int | None]) -> None:
        three = stage(recursions=3, groups=(1, 1, 1), nll=nll)
        assert [three.nll_after(recursion, 2) for recursion in range(2)] == after

    @pytest.mark.parametrize(
        ("changes", "num_tokens", "expected"),
        [
            ({}, 16, [False, True, False]),  # not before the first recursion, nor in one slice
            ({}, 2, [False, False, False]),  # slices of one token
            ({}, 3, [False, True, False]),
            ({"inverse": False}, 16, [False, True, False]),
            ({"inverse": False, "permute_single": True}, 16, [False, True, True]),
            ({"inverse": False, "permute_single": True}, 1, [False, False, False]),
            ({"permute_single": True}, 16, [False, True, False]),  # the inverse puts one slice back
            ({"permute": False, "inverse": False, "permute_single": True}, 16, [False, False, False]),
        ],
    )
    def test_which_recursions_permute(self, changes: dict[str, Any], num_tokens: int, expected: list[bool]) -> None:
        one = stage(recursions=3, groups=(4, 2, 1), **changes)
        assert [one.permutes(recursion, num_tokens) for recursion in range(3)] == expected


class TestIdentity:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ({"recursions": 1, "loop": "internal"}, {"recursions": 1, "loop": "external"}),
            ({"blocks": 1, "loop": "internal"}, {"blocks": 1, "loop": "external"}),
            ({"recursions": 1, "groups": (2, 1)}, {"recursions": 1, "groups": (2, 7)}),
            ({"groups": (2, 1)}, {"groups": (2, 1, 5)}),
            ({"recursions": 1, "nll": "every"}, {"recursions": 1, "nll": "last"}),
            ({"recursions": 1, "nll": "between"}, {"recursions": 1, "nll": "none"}),
            ({"recursions": 1, "nll": "between", "nll_ratio": 2.0}, {"recursions": 1, "nll": "none"}),
            ({"nll": "none", "nll_ratio": 2.0}, {"nll": "none"}),
            ({"groups": (16, 1)}, {"groups": (99, 1)}),
            ({"mlp_ratio": 2.0}, {"mlp_ratio": 2.01}),
            ({"nll_ratio": 1.0}, {"nll_ratio": 1.1}),
        ],
    )
    def test_two_spellings_of_one_network(self, first: dict[str, Any], second: dict[str, Any]) -> None:
        one, other = arch(stage(**first)), arch(stage(**second))
        assert one != other
        assert one.arch_id == other.arch_id
        assert cost_of(one).to_dict() == cost_of(other).to_dict()

    def test_every_real_difference_has_an_id_of_its_own(self) -> None:
        networks = [
            arch(), arch(stage(width=10)), arch(stage(heads=4)), arch(stage(blocks=3)), arch(stage(groups=(1, 1))),
            arch(stage(groups=(1, 2))), arch(stage(recursions=3, groups=(2, 1, 1))), arch(stage(recursions=1)),
            arch(stage(loop="external")), arch(stage(nll="between")), arch(stage(nll="last")), arch(stage(nll="none")),
            arch(stage(nll_ratio=2.0)), arch(stage(mlp_ratio=2.0)), arch(stage(), stage()),
            arch(stem=StemConfig(width=5)), arch(stem=StemConfig(width=4, strides=(2, 2, 1))), arch(image_size=33),
            arch(channels=1), arch(classes=6), arch(drop_path=0.1), *PRESETS.values(),
        ]  # fmt: skip
        assert len({network.arch_id for network in networks}) == len(networks)

    def test_ids_never_change(self) -> None:
        """Records name networks by these ids; a change of the spelling behind them would orphan every one."""
        assert {name: preset(name).arch_id for name in ("sret_t", "sret_s")} == {
            "sret_t": "7f7dd55b68f4", "sret_s": "9285733979b6"
        }  # fmt: skip

    @given(ARCHS)
    def test_canonical_form_is_the_same_network_and_final(self, network: ArchConfig) -> None:
        canonical = network.canonical()
        assert canonical.arch_id == network.arch_id
        assert canonical.canonical() == canonical
        assert cost_of(canonical).to_dict() == cost_of(network).to_dict()
        assert canonical.summary() == network.summary()
        assert ArchConfig.from_dict(canonical.to_dict()) == canonical


class TestVariants:
    def test_defaults_are_not_written(self) -> None:
        """Files and ids are older than the variants."""
        data = arch().to_dict()
        spelled = ArchConfig.from_dict({
            **data, "residual": "path", "head": "average", "stem": {**data["stem"], "kind": "conv", "norm": "batch"},
            "stages": [{**data["stages"][0], "permute": True, "inverse": True, "permute_single": False}],
        })  # fmt: skip
        assert spelled == arch()
        assert spelled.to_dict() == data
        assert not {"residual", "head", "permute", "inverse", "permute_single"} & {*data, *data["stages"][0]}
        assert set(data["stem"]) == {"width", "strides"}

    @given(varied_archs())
    def test_yaml_keeps_them(self, network: ArchConfig) -> None:
        again = ArchConfig.from_dict(parse_yaml(dump_yaml(network.to_dict()), "test"))
        assert again == network
        assert again.arch_id == network.arch_id

    @pytest.mark.parametrize(
        "changes",
        [
            {"permute": False, "inverse": False}, {"permute": False, "permute_single": True},
            {"inverse": False, "groups": (2, 1)}, {"inverse": False, "groups": (2, 16)},
            {"permute": False, "recursions": 1}, {"permute_single": True, "groups": (1, 1)},
        ],
    )  # fmt: skip
    def test_what_has_no_effect_is_no_other_network(self, changes: dict[str, Any]) -> None:
        plain = {name: value for name, value in changes.items() if name in ("groups", "recursions")}
        if "permute" in changes and "recursions" not in changes:
            plain["permute"] = False
        assert arch(stage(**changes)).arch_id == arch(stage(**plain)).arch_id

    def test_every_difference_has_an_id_of_its_own(self) -> None:
        sliced, single = {"groups": (2, 2)}, {"groups": (2, 1)}
        both: dict[str, Any] = {"groups": (2, 2, 1), "recursions": 3, "inverse": False}
        patch = StemConfig(width=4, kind="patch")
        networks = [
            arch(), arch(stage(**sliced)), arch(stage(permute=False, **sliced)), arch(stage(inverse=False, **sliced)),
            arch(stage(inverse=False, permute_single=True, **single)), arch(residual="branch"), arch(residual="plain"),
            arch(stem=patch), arch(stem=StemConfig(width=4, norm="layer")), arch(stem=StemConfig(width=4, norm="none")),
            arch(stage(groups=(1, 1))), arch(stage(groups=(1, 1)), head="class_token"),
            arch(stage(groups=(1, 1)), head="distillation_token"),
            arch(stage(**both)), arch(stage(permute_single=True, **both)),
        ]  # fmt: skip
        assert len({network.arch_id for network in networks}) == len(networks)

    def test_a_patch_embedding_has_no_other_settings(self) -> None:
        one, other = (
            arch(stem=StemConfig(width=width, kind="patch", strides=strides, norm=norm))
            for width, strides, norm in ((4, (4, 2, 1), "batch"), (7, (2, 2, 2), "none"))
        )
        assert one.arch_id == other.arch_id

    @pytest.mark.parametrize(
        ("groups", "stage_changes", "message"),
        [
            ((1, 2), {}, "head class_token needs attention over all tokens in the last stage, groups of 1, got groups=[1, 2]"),
            ((1, 1), {"inverse": False, "permute_single": True}, "head class_token needs tokens that keep their places in the last stage, got permute_single without inverse"),
        ],
    )  # fmt: skip
    def test_class_tokens_see_all_tokens(self, groups: Any, stage_changes: dict[str, Any], message: str) -> None:
        data = {**arch(stage(groups=groups, **stage_changes)).to_dict(), "head": "class_token"}
        with pytest.raises(ConfigError) as caught:
            ArchConfig.from_dict(data, "a.yaml")
        assert str(caught.value) == f"a.yaml: {message}"

    def test_summary_names_them(self) -> None:
        network = arch(stage(inverse=False, groups=(2, 2)), stem=StemConfig(width=4, norm="layer"), residual="plain")
        assert network.summary() == ("8/2h 2x2 g2,2 int every*1 m4 inverse=false | stem norm=layer | residual=plain")


class TestRoundTrips:
    @given(ARCHS)
    def test_yaml(self, network: ArchConfig) -> None:
        again = ArchConfig.from_dict(parse_yaml(dump_yaml(network.to_dict()), "test"))
        assert again == network
        assert again.arch_id == network.arch_id

    @pytest.mark.parametrize("key", [None, "architecture"])
    def test_files(self, key: str | None, tmp_path: Path) -> None:
        data = preset("sret_lt").to_dict()
        path = tmp_path / "arch.yaml"
        path.write_text(dump_yaml(data if key is None else {"cost": 1, key: data}))
        assert ArchConfig.from_yaml(path) == ArchConfig.from_yaml(str(path)) == preset("sret_lt")


class TestWithMaxRecursions:
    @settings(max_examples=50)
    @given(ARCHS, st.integers(1, 5))
    def test_one_limit(self, network: ArchConfig, limit: int) -> None:
        limited = network.with_max_recursions(limit)
        assert [s.recursions for s in limited.stages] == [min(s.recursions, limit) for s in network.stages]
        assert limited.max_recursions == min(limit, network.max_recursions)
        assert ArchConfig.from_dict(limited.to_dict()) == limited

    def test_one_limit_per_stage(self) -> None:
        network = arch(stage(), stage(recursions=3, groups=(1, 1, 1)))
        assert [s.recursions for s in network.with_max_recursions([1, 2]).stages] == [1, 2]

    @pytest.mark.parametrize("limit", [np.int64(1), [np.int64(1), 1]])
    def test_limits_of_numpy_are_plain_numbers(self, limit: Any) -> None:
        limited = arch(stage(), stage()).with_max_recursions(limit)
        assert limited.to_dict() == arch(stage(), stage()).with_max_recursions(1).to_dict()
        assert [type(one.recursions) for one in limited.stages] == [int, int]

    @pytest.mark.parametrize("limit", [0, [1], [1, 0], [1, 1, 1]])
    def test_bad_limits(self, limit: int | list[int]) -> None:
        with pytest.raises(ValueError, match="limit must be one positive number, or one per stage"):
            arch(stage(), stage()).with_max_recursions(limit)


def wrong(*path: str | int, value: Any) -> dict[str, Any]:
    data: Any = arch(stage(), stage()).to_dict()
    inner = data
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    result: dict[str, Any] = data
    return result


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("stages", 1, "heads"), 3, "stages[1]: heads must divide width, got heads=3, width=8"),
        (("stages", 0, "groups"), [2], "stages[0]: groups must give one number per recursion, got groups=[2], recursions=2"),
        (("stages", 0, "mlp_ratio"), 0.1, "stages[0]: mlp_ratio * width must be at least 1, got 0.1 * 8"),
        (("stages", 0, "nll_ratio"), 0.1, "stages[0]: nll_ratio * width must be at least 1, got 0.1 * 8"),
        (("stages", 0, "mlp_ratio"), 17, "stages[0].mlp_ratio: must be less than or equal to 16, got 17"),
        (("stages", 0, "mlp_ratio"), float("nan"), "stages[0].mlp_ratio: must be a finite number, got nan"),
        (("stages", 0, "groups"), [2, 0], "stages[0].groups[1]: must be greater than or equal to 1, got 0"),
        (("stages", 0, "groups"), 2, "stages[0].groups: must be a list, got 2"),
        (("stages", 0, "width"), "8", "stages[0].width: must be a whole number, got '8'"),
        (("stages", 0, "blocks"), 1.5, "stages[0].blocks: must be a whole number, got 1.5"),
        (("stages", 0, "recursions"), 17, "stages[0].recursions: must be less than or equal to 16, got 17"),
        (("stages", 0, "loop"), "both", "stages[0].loop: must be 'internal' or 'external', got 'both'"),
        (("stages", 0, "nll"), True, "stages[0].nll: must be 'every', 'between', 'last' or 'none', got True"),
        (("stages", 0, "depth"), 4, "stages[0].depth: unknown key (known here: width, heads, blocks, recursions, groups, loop, nll, nll_ratio, mlp_ratio, permute, inverse, permute_single)"),
        (("stages",), [], "stages: must have at least 1 item, got 0"),
        (("stem", "strides"), [2, 2], "stem.strides[2]: is missing"),
        (
            ("stem", "strides"),
            [3, 2, 1],
            "stem: strides of 3x3 convolutions must be 1 or 2, got [3, 2, 1]; a stem of kind patch may have 4",
        ),
        (("stem", "strides"), [2, 2, 4], "stem: strides of 3x3 convolutions must be 1 or 2, got [2, 2, 4]; a stem of kind patch may have 4"),
        (("stem", "kernel"), 5, "stem.kernel: unknown key (known here: width, strides, kind, norm)"),
        (("image_size",), 7, "image_size: must be greater than or equal to 8, got 7"),
        (("drop_path",), 1.0, "drop_path: must be less than 1, got 1.0"),
        (("classes",), 0, "classes: must be greater than or equal to 1, got 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_explained(path: tuple[str | int, ...], value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ArchConfig.from_dict(wrong(*path, value=value), "a.yaml")
    assert str(caught.value) == f"a.yaml: {message}"


def test_numbers_of_numpy_are_numbers() -> None:
    data = arch(stage()).to_dict()
    data["stages"][0] |= {"width": np.int64(data["stages"][0]["width"]), "groups": np.array([8, 2])}
    read = ArchConfig.from_dict({**data, "classes": np.arange(11).max(), "drop_path": np.float32(0.5)})
    assert read == arch(stage(groups=(8, 2)), classes=10, drop_path=0.5)
    assert type(read.classes) is type(read.stages[0].width) is int
    with pytest.raises(ConfigError, match=r"^architecture: classes: must be greater than or equal to 1, got 0$"):
        ArchConfig.from_dict({**data, "classes": np.int64(0)})


@pytest.mark.parametrize("given", [None, 3, b"net.yaml", {"stages": []}])
def test_what_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"^the YAML file must be a path, got "):
        ArchConfig.from_yaml(given)


def test_a_file_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "net.yaml").write_text(dump_yaml(arch(stage()).to_dict()))
    assert ArchConfig.from_yaml("~/net.yaml") == arch(stage())


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("stages: []\n")
    with pytest.raises(ConfigError) as caught:
        ArchConfig.from_yaml(path)
    assert (caught.value.source, caught.value.key_path) == (str(path), "stages")


@pytest.mark.parametrize("recursions", [1, 2])
def test_the_ratio_of_projections_that_are_not_there_means_nothing(recursions: int) -> None:
    one, other = (
        arch(stage(nll="none", nll_ratio=ratio, recursions=recursions, groups=(2,) * recursions))
        for ratio in (0.5, 2.0)
    )
    assert one.canonical().stages[0].nll_ratio == 1.0
    assert one.arch_id == other.arch_id
    between, more = (arch(stage(nll="between", nll_ratio=ratio)) for ratio in (0.5, 2.0))
    assert between.canonical().stages[0].nll_ratio == 0.5
    assert between.arch_id != more.arch_id


@pytest.mark.parametrize(("part", "name"), [("stage", "heads"), ("stem", "width"), ("network", "classes")])
def test_a_network_cannot_be_changed(part: str, name: str) -> None:
    network = arch(stage())
    changed = {"stage": network.stages[0], "stem": network.stem, "network": network}[part]
    with pytest.raises(ValidationError, match="Instance is frozen"):
        setattr(changed, name, 1)


def test_summary() -> None:
    assert preset("sret_t").summary() == (
        "64/2h 2x2 g8,2 int every*1 m3.6 | 128/4h 5x2 g4,1 int every*1 m3.6 | 256/8h 3x2 g1,1 int every*1 m3.6"
    )
    assert arch(stage(nll="none", loop="external")).summary() == "8/2h 2x2 g2,1 ext none m4"
