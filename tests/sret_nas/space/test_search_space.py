# ruff: noqa: E501 - the table of wrong inputs holds whole messages
from __future__ import annotations

import copy
import pickle
import random
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bulk_cost import bulk_cost
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import StageConfig
from sret_nas.arch.presets import PRESETS, preset
from sret_nas.errors import ConfigError, UserError
from sret_nas.space import stage_table
from sret_nas.space.choices import MAX_SPELLINGS, STAGE_DIMENSIONS, StageChoices, StemChoices, schedule_of
from sret_nas.space.search_space import SearchSpace, canonical_schedule, shipped_spaces
from sret_nas.space.stage_table import StageTable
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.counted_spaces import HEADS, RESIDUALS, STEMS

SMOKE = SearchSpace.load("smoke")


def changed(*path: str | int, value: Any) -> dict[str, Any]:
    """Returns the content of `smoke` with one value replaced."""
    data: Any = copy.deepcopy(SMOKE.to_dict())
    inner = data
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    result: dict[str, Any] = data
    return result


def choose(values: list[Any], most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


STAGES = st.fixed_dictionaries(
    {
        "width": choose([4, 6, 8, 12], 2),
        "heads": choose([1, 2, 3], 2),
        "blocks": choose([1, 2, 3], 2),
        "recursions": choose([1, 2, 3], 2),
        "loop": st.just(["internal", "external"]),
        "groups": st.sampled_from([[[1]], [[4, 1], [4]], [[8, 2], [8, 2, 1]], [[1000], [900]]]),
        "nll": choose(["every", "between", "last", "none"], 3),
        "nll_ratio": choose([0.25, 0.26, 1.0], 2),
        "mlp_ratio": choose([1.0, 1.01, 2.0], 2),
    }
)
VARIANTS = st.sampled_from(
    [
        {}, {"inverse": [True, False]}, {"permute": [False, True], "inverse": [True, False]}, {"permute": [False]},
        {"inverse": [False, True], "permute_single": [True, False]},
        {"permute": [True, False], "inverse": [False], "permute_single": [True]},
    ]
)  # fmt: skip
NETWORK_VARIANTS = st.sampled_from(
    [
        {}, {"residual": "plain"}, {"residual": "branch", "stem": {"kind": "patch", "strides": [2, 4, 2]}},
        {"stem": {"kind": ["patch", "conv"], "norm": ["none", "batch"], "width": [2, 5], "strides": [1, 2, 2]}},
        {"head": ["average", "class_token"]}, {"head": ["distillation_token", "average", "class_token"]},
        {"stem": {"kind": ["conv", "patch"]}, "residual": ["plain", "path"]}, {"stem": {"norm": ["layer", "batch", "none"]}},
    ]
)  # fmt: skip
PLAIN_SPACES = st.fixed_dictionaries(
    {
        "name": st.just("random"),
        "image_size": st.sampled_from([8, 17, 32]),
        "classes": st.just(7),
        "drop_path": st.sampled_from([0.0, 0.1]),
        "stem": st.sampled_from([{}, {"width": [2, 5], "strides": [1, 2, 2]}]),
        "stages": st.lists(st.builds(lambda *parts: parts[0] | parts[1], STAGES, VARIANTS), min_size=1, max_size=1),
        "depth_schedules": st.just(["full", "sandwich"]),
    }
)
SPACES = st.builds(lambda *parts: parts[0] | parts[1], PLAIN_SPACES, NETWORK_VARIANTS)


def space_or_none(data: dict[str, Any]) -> SearchSpace | None:
    try:
        return SearchSpace.from_dict(data)
    except ConfigError as error:
        if "is in no legal network" in error.problem:
            return None
        raise


def every_spelling(space: SearchSpace) -> list[ArchConfig | None]:
    """Decodes every combination of choices."""
    dimensions = space.dimensions()
    return [space.decode(dict(zip(dimensions, values, strict=True))) for values in product(*dimensions.values())]


class TestLoad:
    def test_shipped_names(self) -> None:
        assert list(shipped_spaces()) == ["paper_ablations", "smoke", "sret_small", "sret_tiny"]

    @pytest.mark.parametrize("name", sorted(shipped_spaces()))
    def test_shipped_spaces_are_named_as_their_files_and_survive_yaml(self, name: str, tmp_path: Path) -> None:
        space = SearchSpace.load(name)
        assert space.name == name
        (tmp_path / "copy.yaml").write_text(dump_yaml(space.to_dict()))
        again = SearchSpace.load(tmp_path / "copy.yaml")
        assert again == space
        assert again.digest == space.digest

    def test_a_file_by_its_path(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(dump_yaml(changed("name", value="mine")))
        assert SearchSpace.load(path).name == SearchSpace.load(str(path)).name == "mine"

    def test_an_unknown_name_lists_the_shipped_ones(self) -> None:
        with pytest.raises(UserError) as caught:
            SearchSpace.load("sret_huge")
        assert str(caught.value) == (
            "sret_huge: there is no such file and no such shipped search space; "
            "the shipped ones are paper_ablations, smoke, sret_small, sret_tiny"
        )

    @pytest.mark.parametrize(
        ("members", "name"),
        [(["sret_t", "sret_t_unsliced", "sret_lt", "sret_lt_unsliced", "sret_lt_16_14_1"], "sret_tiny"),
         (["sret_s", "sret_s_unsliced"], "sret_small"), (["sret_t", "sret_t_unsliced"], "paper_ablations"), ([], "smoke")],
    )  # fmt: skip
    def test_published_variants_are_members(self, members: list[str], name: str) -> None:
        space = SearchSpace.load(name)
        assert [variant for variant, arch in PRESETS.items() if space.contains(arch)] == members
        for member in members:
            decoded = space.decode(space.encode(preset(member)))
            assert decoded is not None
            assert decoded.arch_id == preset(member).arch_id

    def test_smoke_stands_on_both_sides_of_a_natural_cut(self) -> None:
        flops = [cost_of(arch).flops for arch in every_spelling(SMOKE) if arch is not None]
        assert min(flops) < 10**8 < max(flops)
        assert SMOKE.num_networks <= 16

    def test_the_page_on_spaces_has_every_key_and_space(self) -> None:
        page = (Path(__file__).resolve().parents[3] / "docs" / "search-spaces.md").read_text()
        words = set(re.findall(r"`([a-z_]+)`", page))
        assert {*SearchSpace.model_fields, *StageChoices.model_fields, *StemChoices.model_fields} <= words
        assert set(shipped_spaces()) <= words


class TestNumNetworks:
    @pytest.mark.slow
    @settings(max_examples=25)
    @given(SPACES)
    def test_equals_the_number_of_ids_among_all_spellings(self, data: dict[str, Any]) -> None:
        space = space_or_none(data)
        if space is not None and space.stages[0].num_spellings <= 600:
            found = [arch.arch_id for arch in every_spelling(space) if arch is not None]
            assert space.num_networks == len(set(found))

    @pytest.mark.parametrize("space", [STEMS, RESIDUALS, HEADS], ids=["stems", "residuals", "heads"])
    def test_with_variants_to_choose_from(self, space: SearchSpace) -> None:
        found = {arch.arch_id: arch for arch in every_spelling(space) if arch is not None}
        assert space.num_networks == len(found)
        assert all(space.contains(arch) for arch in found.values())

    def test_two_stages(self) -> None:
        stages = [SMOKE.to_dict()["stages"][0], SMOKE.to_dict()["stages"][1]]
        stages[1] |= {"recursions": [1, 2], "nll": ["every", "between", "last", "none"], "nll_ratio": [0.5, 1.0]}
        space = SearchSpace.from_dict(changed("stages", value=stages) | {"stem": {"width": [4, 12]}})
        found = {arch.arch_id for arch in every_spelling(space) if arch is not None}
        # Stage 2 with one recursion: a last NLL of either ratio, or none; with two: three placements of either, or none.
        assert space.num_networks == len(found) == 2 * 3 * ((2 + 1) + (3 * 2 + 1))

    def test_sret_tiny_by_hand(self) -> None:
        """Per stage: (width, heads) pairs x MLP ratios x schedules x sum over blocks and recursions of loops x NLLs."""
        nlls = {1: 2 + 1, 2: 3 * 2 + 1, 3: 3 * 2 + 1}
        sizes = []
        for pairs, schedules, blocks in ((3 * 3, 4, (1, 2, 3)), (4 * 3, 4, (2, 3, 4, 5)), (4 * 2, 2, (1, 2, 3))):
            combined = sum(
                (1 if block == 1 or recursions == 1 else 2) * nlls[recursions]
                for block, recursions in product(blocks, (1, 2, 3))
            )
            sizes.append(pairs * 4 * schedules * combined)
        space = SearchSpace.load("sret_tiny")
        assert [len(table) for table in space.stage_tables] == sizes
        assert space.num_networks == sizes[0] * sizes[1] * sizes[2] == 1_369_366_069_248


class TestStageTables:
    @pytest.mark.parametrize("name", sorted(shipped_spaces()))
    def test_rows_are_their_stages(self, name: str) -> None:
        rng = random.Random(0)
        for table in SearchSpace.load(name).stage_tables:
            rows = [rng.randrange(len(table)) for _ in range(30)]
            for row in rows:
                stage = table.stage(row)
                assert stage == stage.canonical(table.num_tokens)
                assert table.row_of(stage) == row
                for column in ("width", "blocks", "recursions", "mlp_hidden", "num_nlls"):
                    assert getattr(table.columns, column)[row] == getattr(stage, column)
                assert table.columns.groups[row, : stage.recursions].tolist() == list(stage.groups)

    @pytest.mark.parametrize("name", sorted(shipped_spaces()))
    def test_bulk_cost_equals_the_cost_of_each(self, name: str) -> None:
        space, rng = SearchSpace.load(name), np.random.default_rng(0)
        picks = np.stack([rng.integers(len(table), size=40) for table in space.stage_tables], axis=1)
        networks = [space.network(rows) for rows in picks.tolist()]
        columns = [
            type(table.columns)(**{key: value[picks[:, stage]] for key, value in vars(table.columns).items()})
            for stage, table in enumerate(space.stage_tables)
        ]
        stem_width = np.array([arch.stem.width for arch in networks])
        flops, params = bulk_cost(
            columns, networks[0].stem, space.image_size, space.channels, space.classes, stem_width
        )
        assert flops.tolist() == [cost_of(arch).flops for arch in networks]
        assert params.tolist() == [cost_of(arch).params for arch in networks]

    def test_stages_are_made_once_but_a_large_table_does_not_keep_them_all(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stage_table, "MAX_KEPT_STAGES", 2)
        table = StageTable(SMOKE.stages[0], SMOKE.num_tokens[0])
        first, second, third = (table.stage(row) for row in range(3))
        assert table.stage(0) is first
        assert table.stage(1) is second
        assert table.stage(2) is not third
        assert table.stage(2) == third

    def test_row_of_a_stranger(self) -> None:
        table = SMOKE.stage_tables[0]
        member = table.stage(0)
        assert table.row_of(member.model_copy(update={"blocks": 3})) is None
        longer = member.model_copy(update={"recursions": 5, "groups": (4, 1, 1, 1, 1)})
        assert table.row_of(longer) is None

    def test_the_stem_is_half_as_wide_as_the_first_stage_but_never_without_a_channel(self) -> None:
        stage = {
            "width": [1, 2, 3, 4, 5], "heads": [1], "blocks": [1], "recursions": [1], "groups": [[1]],
            "loop": ["internal"], "nll": ["none"], "nll_ratio": [1.0], "mlp_ratio": [1.0],
        }  # fmt: skip
        space = SearchSpace.from_dict({"name": "narrow", "stages": [stage]})
        stems = {(arch.stages[0].width, arch.stem.width) for arch in (space.network([row]) for row in range(5))}
        assert stems == {(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)}

    def test_a_rich_stage_is_tabled(self) -> None:
        """A stage of 1e5 spellings; its distinct rows follow from one factor per dimension, all of them independent."""
        stage = {
            "width": list(range(40, 90, 2)), "heads": [1, 2], "blocks": list(range(2, 22)), "recursions": [2],
            "loop": ["internal", "external"], "groups": [[8, 2], [4, 1], [1]], "nll": ["every", "none"],
            "nll_ratio": [1.0], "mlp_ratio": [1.0, 1.0001, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0001],
        }  # fmt: skip
        space = SearchSpace.from_dict({"name": "rich", "stages": [stage]})
        assert space.stages[0].num_spellings == 25 * 2 * 20 * 2 * 3 * 2 * 8
        assert space.num_networks == 25 * 2 * 20 * 2 * 3 * 2 * 6  # 1.0001 and 4.0001 are 1 and 4 at these widths


class TestDimensions:
    def test_smoke(self) -> None:
        assert SMOKE.dimensions() == {
            "stage1.width": (24,), "stage1.heads": (2,), "stage1.blocks": (2,), "stage1.recursions": (1, 2),
            "stage1.groups": ("4-1",), "stage1.loop": ("internal", "external"), "stage1.nll": ("every",),
            "stage1.nll_ratio": (1.0,), "stage1.mlp_ratio": (2.0,),
            "stage2.width": (48,), "stage2.heads": (2,), "stage2.blocks": (1,), "stage2.recursions": (2,),
            "stage2.groups": ("2-1",), "stage2.loop": ("internal",), "stage2.nll": ("every", "none"),
            "stage2.nll_ratio": (1.0,), "stage2.mlp_ratio": (2.0,),
            "stage3.width": (64, 96), "stage3.heads": (4,), "stage3.blocks": (1,), "stage3.recursions": (1,),
            "stage3.groups": ("1",), "stage3.loop": ("internal",), "stage3.nll": ("none",),
            "stage3.nll_ratio": (1.0,), "stage3.mlp_ratio": (2.0,),
            "depth_schedule": ("full", "joint"),
        }  # fmt: skip

    def test_a_listed_stem_is_a_dimension(self) -> None:
        space = SearchSpace.from_dict(changed("stem", value={"width": [8, 16]}))
        assert next(iter(space.dimensions().items())) == ("stem.width", (8, 16))
        assert space.num_networks == 2 * SMOKE.num_networks

    @settings(max_examples=25)
    @given(SPACES, st.randoms(use_true_random=False))
    def test_encode_is_undone_by_decode(self, data: dict[str, Any], rng: random.Random) -> None:
        space = space_or_none(data)
        if space is None:
            return
        dimensions = space.dimensions()
        for _ in range(10):
            arch = space.decode({name: rng.choice(values) for name, values in dimensions.items()})
            if arch is None:
                continue
            assert space.contains(arch)
            values = space.encode(arch)
            assert values.keys() == dimensions.keys() - {"depth_schedule"}
            assert all(value in dimensions[name] for name, value in values.items())
            decoded = space.decode(values)
            assert decoded is not None
            assert decoded.arch_id == arch.arch_id

    def test_an_illegal_combination_is_none(self) -> None:
        space = SearchSpace.from_dict(changed("stages", 0, value=SMOKE.to_dict()["stages"][0] | {
            "width": [24, 25], "heads": [2, 5]}))  # fmt: skip
        values = {name: listed[0] for name, listed in space.dimensions().items()}
        assert space.decode(values | {"stage1.width": 24, "stage1.heads": 5}) is None
        assert space.decode(values | {"stage1.width": 25, "stage1.heads": 5}) is not None

    def test_a_value_that_is_not_listed(self) -> None:
        values = {name: listed[0] for name, listed in SMOKE.dimensions().items()}
        with pytest.raises(UserError, match=re.escape("stage3.width must be one of 64, 96, got 65")):
            SMOKE.decode(values | {"stage3.width": 65})
        del values["stage1.groups"]
        with pytest.raises(UserError, match=re.escape("stage1.groups must be one of 4-1, got None")):
            SMOKE.decode(values)

    def test_strangers_are_no_members(self) -> None:
        member = SMOKE.network([0, 0, 0])
        assert SMOKE.contains(member)
        spelled_otherwise = member.stages[0].model_copy(update={"loop": "external", "groups": (4, 7, 7)})
        assert SMOKE.contains(member.model_copy(update={"stages": (spelled_otherwise, *member.stages[1:])}))
        for change in (
            {"image_size": 225}, {"channels": 1}, {"classes": 10}, {"drop_path": 0.1}, {"stages": member.stages[:2]},
            {"stem": member.stem.model_copy(update={"width": 13})},
            {"stem": member.stem.model_copy(update={"strides": (2, 2, 1)})},
            {"stages": (member.stages[0].model_copy(update={"heads": 3}), *member.stages[1:])},
        ):  # fmt: skip
            stranger = member.model_copy(update=change)
            assert not SMOKE.contains(stranger), change
            with pytest.raises(
                UserError, match=f"smoke: the network {stranger.arch_id} .* is not in this search space"
            ):
                SMOKE.encode(stranger)


@pytest.mark.parametrize(
    ("groups", "recursions", "expected"),
    [((8, 2), 1, (8,)), ((8, 2), 2, (8, 2)), ((8, 2), 4, (8, 2, 2, 2)), ((1,), 3, (1, 1, 1)), ((4, 3, 2), 2, (4, 3))],
)
def test_schedule_of(groups: tuple[int, ...], recursions: int, expected: tuple[int, ...]) -> None:
    assert schedule_of(groups, recursions) == expected


class TestDepthSchedules:
    @staticmethod
    def arch(recursions: int) -> ArchConfig:
        return ArchConfig(
            stages=(StageConfig(width=8, heads=1, blocks=1, recursions=recursions, groups=(1,) * recursions),)
        )

    @pytest.mark.parametrize(
        ("recursions", "listed", "expected"),
        [(3, ["growing", "full", "sandwich", "joint", "random"], ("growing", "full", "sandwich", "joint", "random")),
         (2, ["growing", "full", "sandwich", "joint", "random"], ("growing", "full", "joint", "random")),
         (1, ["growing", "full", "sandwich", "joint", "random"], ("full",)),
         (2, ["sandwich"], ("joint",)), (1, ["random"], ("full",)), (3, ["sandwich"], ("sandwich",))],
    )  # fmt: skip
    def test_effective(self, recursions: int, listed: list[str], expected: tuple[str, ...]) -> None:
        space = SearchSpace.from_dict(changed("depth_schedules", value=listed))
        assert space.effective_schedules(self.arch(recursions)) == expected

    def test_the_deepest_stage_decides(self) -> None:
        shallow, deep = self.arch(1).stages[0], self.arch(3).stages[0]
        assert canonical_schedule(ArchConfig(stages=(shallow, deep)), "sandwich") == "sandwich"
        assert canonical_schedule(ArchConfig(stages=(shallow, shallow)), "sandwich") == "full"


class TestDigest:
    def test_words_for_people_do_not_count_and_all_else_does(self) -> None:
        digests = [SMOKE.digest]
        for path, value in (
            (("image_size",), 192), (("channels",), 1), (("classes",), 10), (("drop_path",), 0.2),
            (("stem", "width"), [12]), (("stem", "strides"), [2, 2, 1]), (("depth_schedules",), ["full"]),
            (("stages", 0, "width"), [26]), (("stages", 0, "groups"), [[4, 2]]), (("stages", 2, "mlp_ratio"), [2.5]),
        ):  # fmt: skip
            digests.append(SearchSpace.from_dict(changed(*path, value=value)).digest)
        assert len(set(digests)) == len(digests)
        assert SearchSpace.from_dict(changed("name", value="other") | {"description": ""}).digest == SMOKE.digest
        assert re.fullmatch("[0-9a-f]{12}", SMOKE.digest)

    def test_whole_numbers_are_the_same_ratio(self) -> None:
        assert SearchSpace.from_dict(changed("stages", 0, "mlp_ratio", value=[2])) == SMOKE
        assert SearchSpace.from_dict(changed("stages", 0, "mlp_ratio", value=[2])).digest == SMOKE.digest

    def test_pickle(self) -> None:
        space = SearchSpace.load("smoke")
        assert space.num_networks == 12
        again = pickle.loads(pickle.dumps(space))  # noqa: S301 - our own bytes
        assert (again, again.digest, again.num_networks) == (space, space.digest, 12)
        assert len(pickle.dumps(SearchSpace.load("sret_tiny"))) < 10_000

    def test_a_changed_copy_has_its_own_tables(self) -> None:
        assert SMOKE.num_networks == 12
        assert SMOKE.model_copy(update={"stages": SMOKE.stages[1:]}).num_networks == 4


WRONG = [
    (("stages", 0, "width"), 64, "stages[0].width: must be a list of choices, got 64; a single choice is a list of one: [64]"),
    (("stages", 0, "nll"), "every", "stages[0].nll: must be a list of choices, got 'every'; a single choice is a list of one: ['every']"),
    (("stages", 0, "heads"), [2, 5], "stages[0].heads[1]: 5 is in no legal network: heads must divide width, and widths are [24]"),
    (("stages", 0, "width"), [24, 25], "stages[0].width[1]: 25 is in no legal network: heads must divide width and ratio * width be at least 1, and heads are [2], nll_ratio [1.0], mlp_ratio [2.0]"),
    (("stages", 0, "mlp_ratio"), [2.0, 0.01], "stages[0].mlp_ratio[1]: 0.01 is in no legal network: mlp_ratio * width must be at least 1, and widths are [24]"),
    (("stages", 0, "nll_ratio"), [0.01], "stages[0].nll_ratio[0]: 0.01 is in no legal network: nll_ratio * width must be at least 1, and widths are [24]"),
    (("stages", 0, "groups"), [4, 1], "stages[0].groups[0]: must be a schedule, one number per recursion, got 4; [4] repeats it (and 1 more)"),
    (("stages", 0, "groups"), [[4], [4, 4]], "stages[0].groups: must list every schedule once, got [4] and [4, 4], which mean the same because the last number is repeated"),
    (("stages", 0, "groups"), [[4, 1], [2], [4, 1]], "stages[0].groups: must list every choice once, got [4, 1] twice"),
    (("stages", 0, "groups"), [[0]], "stages[0].groups[0][0]: must be greater than or equal to 1, got 0"),
    (("stages", 0, "blocks"), [1, 2, 2], "stages[0].blocks: must list every choice once, got 2 twice"),
    (("stages", 0, "mlp_ratio"), [2, 2.0], "stages[0].mlp_ratio: must list every choice once, got 2.0 twice"),
    (("stages", 0, "mlp_ratio"), [], "stages[0].mlp_ratio: must have at least 1 item, got 0"),
    (("stages", 0, "loop"), ["inner"], "stages[0].loop[0]: must be 'internal' or 'external', got 'inner'"),
    (("stages", 1, "recursions"), [0], "stages[1].recursions[0]: must be greater than or equal to 1, got 0"),
    (("stages", 1, "recursions"), [True], "stages[1].recursions[0]: must be a whole number, got True"),
    (("stages", 1, "dropout"), [0.1], "stages[1].dropout: unknown key (known here: width, heads, blocks, recursions, groups, loop, nll, nll_ratio, mlp_ratio, permute, inverse, permute_single)"),
    (("stages",), [], "stages: must have at least 1 item, got 0"),
    (("stem", "width"), 32, "stem.width: must be a list of choices, got 32; a single choice is a list of one: [32]"),
    (("stem", "width"), [32, 32], "stem.width: must list every choice once, got 32 twice"),
    (("stem", "strides"), [2, 2, 3], "stem.strides[2]: must be 1, 2 or 4, got 3"),
    (("stem", "strides"), [2, 2, 4], "stem: strides of 3x3 convolutions must be 1 or 2, got [2, 2, 4]; a stem of kind patch may have 4"),
    (("stem",), {"kind": "patch", "norm": "none"}, "stem: a stem of kind patch has no norm, got none"),
    (("stem",), {"kind": "patch", "width": [8]}, "stem: a stem of kind patch has no width, got [8]"),
    (("stem",), {"kind": ["patch"], "norm": ["layer", "none"]}, "stem: a stem of kind patch has no norm, got ['layer', 'none']"),
    (("stem",), {"kind": ["patch", "conv"], "strides": [4, 2, 2]}, "stem: strides of 3x3 convolutions must be 1 or 2, got [4, 2, 2]; a stem of kind patch may have 4"),
    (("stem", "kind"), "conf", "stem.kind: must be 'conv' or 'patch', got 'conf'"),
    (("stem", "kind"), 3, "stem.kind: must be 'conv' or 'patch', got 3"),
    (("stem", "kind"), ["conv", "conf"], "stem.kind[1]: must be 'conv' or 'patch', got 'conf'"),
    (("stem", "kind"), [["conv"]], "stem.kind[0]: must be 'conv' or 'patch', got ['conv']"),
    (("stem", "kind"), ["conv", "patch", "conv"], "stem.kind: must list every choice once, got conv twice"),
    (("stem", "norm"), [], "stem.norm: must have at least 1 item, got 0"),
    (("stem", "norm"), None, "stem.norm: must be 'batch', 'layer' or 'none', got None"),
    (("stages", 0, "permute"), True, "stages[0].permute: must be a list of choices, got True; a single choice is a list of one: [True]"),
    (("stages", 0, "permute"), [False, False], "stages[0].permute: must list every choice once, got false twice"),
    (("residual",), ["plain", "plane"], "residual[1]: must be 'path', 'branch' or 'plain', got 'plane'"),
    (("residual",), "plane", "residual: must be 'path', 'branch' or 'plain', got 'plane'"),
    (("residual",), ["plain", "path", "plain"], "residual: must list every choice once, got plain twice"),
    (("residual",), [], "residual: must have at least 1 item, got 0"),
    (("head",), "token", "head: must be 'average', 'class_token' or 'distillation_token', got 'token'"),
    (("head",), ["average", "token"], "head[1]: must be 'average', 'class_token' or 'distillation_token', got 'token'"),
    (("head",), ["average", "average"], "head: must list every choice once, got average twice"),
    (("head",), [], "head: must have at least 1 item, got 0"),
    (("depth_schedules",), ["deep"], "depth_schedules[0]: must be 'full', 'joint', 'sandwich', 'random' or 'growing', got 'deep'"),
    (("depth_schedules",), ["full", "full"], "depth_schedules: must list every choice once, got full twice"),
    (("drop_path",), 1, "drop_path: must be less than 1, got 1"),
    (("drop_path",), "0.1", "drop_path: must be a number, got '0.1'"),
    (("image_size",), "224", "image_size: must be a whole number, got '224'"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[message[:50] for _, _, message in WRONG])
def test_what_is_wrong_is_explained(path: tuple[str | int, ...], value: Any, message: str) -> None:
    data = changed(*path, value=value)
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(data, "mine.yaml")
    assert re.sub(r" \(and \d+ more\)$", "", str(caught.value)) == "mine.yaml: " + re.sub(
        r" \(and \d+ more\)$", "", message
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": [[1], [2, 1]]}, "head class_token needs attention over all tokens in the last stage, groups: [[1]], got [[1], [2, 1]]"),
        ({"inverse": [True, False], "permute_single": [True]}, "head class_token needs tokens that keep their places in the last stage, got permute_single: true and inverse: false"),
    ],
)  # fmt: skip
def test_class_tokens_need_a_last_stage_that_sees_all_tokens(changes: dict[str, Any], message: str) -> None:
    data = SMOKE.to_dict()
    data["stages"][-1] |= changes
    data["head"] = "class_token"
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(data, "mine.yaml")
    assert str(caught.value) == f"mine.yaml: {message}"


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": [[2, 1], [1000]]},
        {"recursions": [2], "groups": [[1, 2]]},
        {"recursions": [2, 3], "groups": [[1]], "permute": [True], "inverse": [False], "permute_single": [True]},
    ],
)
def test_class_tokens_beside_the_average_need_some_last_stage_that_sees_all_tokens(changes: dict[str, Any]) -> None:
    data = SMOKE.to_dict()
    data["stages"][-1] |= changes
    data["head"] = ["average", "class_token"]
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(data, "mine.yaml")
    assert str(caught.value) == (
        "mine.yaml: head[1]: class_token is in no legal network: it needs attention over all tokens, in their places, "
        f"in the last stage, such as groups: [1], got {data['stages'][-1]['groups']}"
    )
    data["stages"][-1] |= {"recursions": [1, 2], "groups": [[1, 2]]}
    with_some = SearchSpace.from_dict(data)
    heads = {(arch.head, arch.stages[-1].recursions) for arch in every_spelling(with_some) if arch is not None}
    assert heads == {("average", 1), ("average", 2), ("class_token", 1)}


def test_heads_to_choose_from_survive_yaml(tmp_path: Path) -> None:
    data = changed("head", value=["average", "distillation_token"])
    data["stages"][-1]["groups"] = [[1], [2]]
    space = SearchSpace.from_dict(data)
    (tmp_path / "space.yaml").write_text(dump_yaml(space.to_dict()))
    again = SearchSpace.load(tmp_path / "space.yaml")
    assert (again, again.digest, again.to_dict()) == (space, space.digest, data)
    assert space.dimensions()["head"] == ("average", "distillation_token")
    assert space.num_networks == 3 * 2 * (2 * 2 + 2)  # groups of 2 with the average alone
    with_tokens = space.network([0, 0, 0], head="distillation_token")
    assert space.encode(with_tokens)["head"] == "distillation_token"
    values = {**space.encode(with_tokens), "stage3.groups": "2"}
    assert space.decode(values) is None
    assert space.decode({**values, "head": "average"}) is not None
    one = SearchSpace.from_dict({**data, "head": ["average"]})
    assert (one.head, "head" in one.to_dict(), "head" in one.dimensions()) == (("average",), False, False)


def test_digests_do_not_depend_on_variants_that_came_later() -> None:
    """Supernets and profiles of latency are kept by them."""
    assert SearchSpace.load("sret_tiny").digest == "24340c0c8f34"
    assert not {"residual", "head"} & SMOKE.to_dict().keys()


@pytest.mark.parametrize("key", ["kind", "norm"])
def test_a_list_of_one_is_the_value_itself(key: str) -> None:
    one, listed = ({"kind": "conv", "norm": "layer"}, {"kind": ["conv"], "norm": ["layer"]})
    alone, of_one = (SearchSpace.from_dict(changed("stem", value=stem)) for stem in (one, one | {key: listed[key]}))
    assert of_one == alone
    assert (of_one.digest, of_one.to_dict()["stem"].get("norm")) == (alone.digest, "layer")
    assert not [name for name in of_one.dimensions() if name.startswith("stem")]


def test_residuals_to_choose_from_survive_yaml(tmp_path: Path) -> None:
    space = SearchSpace.from_dict(changed("residual", value=["plain", "path"]))
    assert space.to_dict()["residual"] == ["plain", "path"]
    (tmp_path / "space.yaml").write_text(dump_yaml(space.to_dict()))
    again = SearchSpace.load(tmp_path / "space.yaml")
    assert (again, again.digest) == (space, space.digest)
    assert space.dimensions()["residual"] == ("plain", "path")
    assert space.num_networks == 2 * SMOKE.num_networks
    one = SearchSpace.from_dict(changed("residual", value=["plain"]))
    assert one == SearchSpace.from_dict(changed("residual", value="plain"))
    assert one.to_dict()["residual"] == "plain"
    assert "residual" not in one.dimensions()
    assert SearchSpace.from_dict(changed("residual", value=["path"])).digest == SMOKE.digest
    stranger = ArchConfig.from_dict({**space.network([0, 0, 0]).to_dict(), "residual": "branch"})
    assert not space.contains(stranger)
    with pytest.raises(UserError, match="residual must be one of plain, path, got 'branch'"):
        space.decode({**space.encode(space.network([0, 0, 0])), "residual": "branch"})


def test_stems_to_choose_from_survive_yaml(tmp_path: Path) -> None:
    stem = {"width": [8, 12], "kind": ["conv", "patch"], "norm": ["none", "batch"]}
    space = SearchSpace.from_dict(changed("stem", value=stem))
    assert space.to_dict()["stem"] == stem | {"strides": [2, 2, 2]}
    (tmp_path / "space.yaml").write_text(dump_yaml(space.to_dict()))
    again = SearchSpace.load(tmp_path / "space.yaml")
    assert (again, again.digest) == (space, space.digest)
    assert again.digest != SMOKE.digest
    assert {name: values for name, values in space.dimensions().items() if name.startswith("stem")} == {
        f"stem.{name}": tuple(values) for name, values in stem.items()
    }
    assert space.num_networks == 5 * SMOKE.num_networks  # two widths with two norms, and patches


def test_a_stem_that_is_not_listed_is_not_in_the_space() -> None:
    space = SearchSpace.from_dict(changed("stem", value={"width": [8], "kind": ["conv", "patch"]}))
    member = space.network([0, 0, 0])
    for stem in (
        {"width": 9},
        {"width": 8, "norm": "layer"},
        {"width": 8, "strides": [2, 2, 1]},
        {"width": 8, "kind": "patch", "strides": [2, 2, 1]},
    ):
        stranger = ArchConfig.from_dict({**member.to_dict(), "stem": stem})
        assert not space.contains(stranger)
        with pytest.raises(UserError, match="is not in this search space"):
            space.encode(stranger)
    patches = ArchConfig.from_dict({**member.to_dict(), "stem": {"width": 77, "kind": "patch", "norm": "none"}})
    assert space.encode(patches)["stem.kind"] == "patch"


def test_a_stage_too_rich_to_be_tabled() -> None:
    stage = SMOKE.to_dict()["stages"][0] | {
        "width": list(range(2, 2002, 2)), "blocks": list(range(1, 129)), "recursions": [1, 2, 3, 4]
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(changed("stages", 0, value=stage), "mine.yaml")
    assert str(caught.value) == (
        f"mine.yaml: stages[0]: a stage must spell at most {MAX_SPELLINGS:,} combinations, got {1000 * 128 * 4 * 2:,}; "
        "list fewer values"
    )


def test_two_stages_with_too_many_pairs_of_widths() -> None:
    """Counting goes through all pairs, and takes memory for each."""
    stages = [SMOKE.to_dict()["stages"][0] | {"width": list(range(8, 8 * (most + 1), 8))} for most in (101, 100)]
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(SMOKE.to_dict() | {"stages": stages}, "mine.yaml")
    assert str(caught.value) == (
        "mine.yaml: stages[0] and stages[1] must have at most 10,000 pairs of widths, got 101 x 100; list fewer widths"
    )
    stages[0]["width"] = stages[1]["width"]
    assert SearchSpace.from_dict(SMOKE.to_dict() | {"stages": stages}).stages[0].width[-1] == 800


def test_stages_too_rich_together() -> None:
    stage = SMOKE.to_dict()["stages"][0] | {"width": list(range(2, 602, 2)), "blocks": list(range(1, 129))}
    spelled = SearchSpace.from_dict(SMOKE.to_dict() | {"stages": [stage]}).stages[0].num_spellings
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(SMOKE.to_dict() | {"stages": [stage] * 8}, "mine.yaml")
    assert str(caught.value) == (
        f"mine.yaml: the stages must spell at most {MAX_SPELLINGS:,} combinations together, got {8 * spelled:,}; "
        "list fewer values"
    )


@pytest.mark.parametrize("key", ["name", "stages"])
def test_what_is_missing(key: str) -> None:
    data = SMOKE.to_dict()
    del data[key]
    with pytest.raises(ConfigError, match=f"^mine.yaml: {key}: is missing$"):
        SearchSpace.from_dict(data, "mine.yaml")


@pytest.mark.parametrize("key", STAGE_DIMENSIONS)
def test_every_key_of_a_stage_is_required(key: str) -> None:
    data = copy.deepcopy(SMOKE.to_dict())
    del data["stages"][1][key]
    with pytest.raises(ConfigError, match=rf"^mine.yaml: stages\[1\].{key}: is missing$"):
        SearchSpace.from_dict(data, "mine.yaml")


def test_shipped_files_write_out_what_their_readers_see() -> None:
    """Defaults apart, a shipped file holds exactly the content of its space."""
    for name, path in shipped_spaces().items():
        content, space = read_yaml(path), SearchSpace.load(name).to_dict()
        assert {key: space[key] for key in content} == content | {"stages": space["stages"]}
        for written, read in zip(content["stages"], space["stages"], strict=True):
            assert written == read


def test_a_network_is_no_search_space(tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text("architecture: {}\n")
    with pytest.raises(
        UserError, match=r"best.yaml: is one network, which `profile` and `evaluate` take, not a search"
    ):
        SearchSpace.load(tmp_path / "best.yaml")


def test_a_space_without_a_name_is_still_a_space(tmp_path: Path) -> None:
    data = SearchSpace.load("smoke").to_dict()
    del data["name"]
    (tmp_path / "mine.yaml").write_text(dump_yaml(data))
    with pytest.raises(UserError, match=r"mine.yaml: name: is missing"):
        SearchSpace.load(tmp_path / "mine.yaml")
