"""Search spaces: files, how many networks they have, how one is spelled, depth schedules and digests."""

from __future__ import annotations

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

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import StageConfig
from sret_nas.arch.presets import PRESETS, preset
from sret_nas.errors import UserError
from sret_nas.space.choices import StageChoices, StemChoices, schedule_of
from sret_nas.space.search_space import SearchSpace, canonical_schedule, shipped_spaces
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.counted_spaces import HEADS, RESIDUALS, STEMS
from tests.sret_nas.space.spelled_spaces import SMOKE, SPACES, changed, every_spelling, space_or_none


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
         (["sret_s", "sret_s_unsliced"], "sret_small"), (["sret_t", "sret_t_unsliced"], "paper_ablations"),
         ([], "smoke")],
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
        # Stage 2 with one recursion: a last NLL of either ratio, or none; with two: three placements of either, or
        # none.
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


@pytest.mark.parametrize("given", [None, 3, {"name": "mine"}, SearchSpace.load("smoke")])
def test_what_is_no_file_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"^the search space must be the name of a shipped one or a file, got "):
        SearchSpace.load(given)


def test_a_space_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(dump_yaml(SearchSpace.load("smoke").to_dict()))
    assert SearchSpace.load("~/mine.yaml") == SearchSpace.load("smoke")


def test_lists_of_numpy_are_lists() -> None:
    space = SearchSpace.load("smoke")
    data = space.to_dict()
    for stage in data["stages"]:
        stage |= {"width": np.array(stage["width"]), "groups": [np.array(groups) for groups in stage["groups"]]}
    assert SearchSpace.from_dict(data) == space
