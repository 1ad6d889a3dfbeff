from __future__ import annotations

import errno
import os
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.arch.presets import preset
from sret_nas.errors import BudgetError, UserError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.quantities import format_quantity
from sret_nas.space.search_space import SearchSpace, shipped_spaces
from tests.counted_spaces import FIRST, SECOND, STAGE, STEMS, THIRD, EveryNetwork, shipped, space_of
from trials.report.cost_picture import CostRegion, mark_presets, region_text
from trials.report.space import show_space


def shown(
    space: SearchSpace, budget: Budget, width: int = 80, samples: int = 2, seed: int = 0, picture: Path | None = None
) -> str:
    file = StringIO()
    show_space(space, budget, Console(file=file, width=width), samples=samples, seed=seed, picture=picture)
    return file.getvalue()


def row_of(text: str, word: str) -> list[str]:
    """Returns the cells of the first table row that holds a word."""
    line = next(line for line in text.splitlines() if f" {word} " in line and "│" in line)
    return [cell.strip() for cell in line.strip("│ ").split("│")]


@pytest.mark.parametrize("width", [50, 80, 120])
@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_every_line_fits_and_nothing_is_cut(name: str, width: int) -> None:
    text = shown(shipped(name), Budget(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_smoke_in_full() -> None:
    space = shipped("smoke")
    text = shown(space, Budget(flops_max=10**8))
    assert row_of(text, "recursions") == ["recursions", "1 2", "2", "1"]
    assert row_of(text, "groups") == ["groups", "4,1", "2,1", "1"]
    assert row_of(text, "distinct") == ["distinct", "3", "2", "2"]
    assert "stem width: half the width of stage 1; stem strides: 2 2 2; drop path: 0\n" in text
    assert "depth schedules (recipe, not architecture): full joint\n" in text
    assert "FLOPs: multiply-adds of one image of 224 px, 3 channels, 1000 classes\n" in text
    assert "\n12 distinct networks\n" in text
    below = sum(cost_of(arch).flops <= 10**8 for arch in FeasibleSet(space, Budget()))
    assert f"\n{below} of them ({100 * below / 12:.3g} %) have FLOPs at most 100M\n" in text
    cheapest = FeasibleSet(space, Budget()).cheapest()
    assert row_of(text, cheapest.arch.arch_id)[:4] == ["least", cheapest.arch.arch_id, "56.22M", "159.2K"]
    most_expensive = FeasibleSet(space, Budget()).most_expensive()
    assert row_of(text, most_expensive.arch.arch_id)[:4] == ["most", most_expensive.arch.arch_id, "128.9M", "243.8K"]


def test_variants_to_choose_from_are_shown() -> None:
    text = shown(STEMS, Budget(), samples=6, seed=1)
    assert "stem width: 4 6; stem strides: 1 2 2; drop path: 0\n" in text
    assert "\nstem kind: patch conv; stem norm: layer none batch\n" in text
    assert {"stem=patch", "stem norm=layer", "stem norm=none"} <= {cell.strip() for cell in re.split("[│\n]", text)}


def test_samples_are_inside_the_budget_and_the_seed_decides() -> None:
    space, budget = shipped("smoke"), Budget(flops_max=10**8)
    inside = {arch.arch_id for arch in FeasibleSet(space, budget)}
    text = shown(space, budget, samples=6)
    _, title, table = text.partition("Drawn uniformly, seed 0: FLOPs at most 100M")
    assert title
    assert {row_of(table, str(number))[1] for number in range(1, 7)} <= inside
    assert text == shown(space, budget, samples=6)
    assert text != shown(space, budget, samples=6, seed=1)
    assert "Drawn" not in shown(space, budget, samples=0)


def test_without_a_budget_no_share_is_shown() -> None:
    assert "of them" not in shown(shipped("smoke"), Budget())


@pytest.mark.slow
def test_a_small_share_is_not_rounded_to_nothing() -> None:
    space = shipped("sret_tiny")
    cheapest = FeasibleSet(space, Budget()).cheapest().flops
    budget = Budget(flops_max=cheapest)
    count = FeasibleSet(space, budget).count
    text = " ".join(shown(space, budget, samples=0).split())
    assert f"{count} of them (a share of {count / space.num_networks:.6g}) have {budget.describe()}" in text


def test_markup_in_a_description_is_only_text() -> None:
    data = shipped("smoke").to_dict() | {"name": "mine", "description": "with [bold] and [/] and [red]"}
    assert "mine  with [bold] and [/] and [red]" in shown(SearchSpace.from_dict(data), Budget())


def grid_of(text: str) -> list[str]:
    """Returns the lines of the picture, from the highest parameters on, without the labels."""
    lines = [line[8:] for line in text.splitlines() if len(line) > 8 and line[8] in "│┼" and not line.startswith("│")]
    return [line.rstrip() for line in lines]


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets pictures have few draws, where they are not what is tested; those that are say how many they want."""
    monkeypatch.setattr("trials.report.cost_picture.TEXT_DRAWS", 4_900)
    monkeypatch.setattr("trials.report.cost_picture.PNG_DRAWS", 4_900)


class TestPicture:
    BUDGET = Budget(flops_max=900_000, flops_min=500_000, params_max=10_000)
    SPACE = space_of(FIRST, SECOND, THIRD, image_size=64)

    @pytest.mark.slow
    def test_every_cell_by_brute_force(self) -> None:
        """Numbers are unbiased estimates; a cell without a network is empty, and no cell lies across a bound."""
        every = EveryNetwork(self.SPACE)
        region = CostRegion.of(FeasibleSet(self.SPACE, self.BUDGET), 24, 10, 98_000)
        assert (region.flops_ends[0], region.flops_ends[-1]) == (every.flops.min(), every.flops.max() + 1)
        assert (region.params_ends[0], region.params_ends[-1]) == (every.params.min(), every.params.max() + 1)
        assert {500_000, 900_001} <= set(region.flops_ends.tolist())
        assert 10_001 in region.params_ends.tolist()
        column = np.searchsorted(region.flops_ends, every.flops, side="right") - 1
        row = np.searchsorted(region.params_ends, every.params, side="right") - 1
        expected = np.zeros(region.counts.shape)
        np.add.at(expected, (column, row), 1)
        assert (region.counts[expected == 0] == 0).all()
        many = expected >= 100
        assert many.sum() > 40
        assert np.abs(region.counts[many] / expected[many] - 1).max() < 0.5
        assert region.counts.sum() == pytest.approx(len(every.choices), rel=0.02)
        assert (region.is_inside[column, row] == every.is_inside(self.BUDGET)).all()

    @pytest.mark.parametrize("width", [80, 120])
    def test_on_the_terminal(self, width: int) -> None:
        text = shown(self.SPACE, self.BUDGET, width, samples=0)
        grid, region = grid_of(text), CostRegion.of(FeasibleSet(self.SPACE, self.BUDGET), width - 13, 18, 4_900)
        rules = [number for number, line in enumerate(grid) if line.startswith("┼")]
        assert len(rules) == 1
        assert text.splitlines()[[line[8:9] for line in text.splitlines()].index("┼")].startswith("    10K ┼──")
        cells = [line[1:] for number, line in enumerate(grid) if number not in rules]
        bars = [at for at, character in enumerate(grid[rules[0]][1:]) if character == "┼"]
        low, high = (region.flops_ends.tolist().index(bound) for bound in (500_000, 900_001))
        assert bars == [low, high + 1]
        for row, line in enumerate(reversed(cells)):
            line = line.ljust(len(region.counts) + 2)
            digits = "".join(character for at, character in enumerate(line) if at not in bars)
            expected = [str(max(0, int(np.log10(number)))) if number else " " for number in region.counts[:, row]]
            assert digits == "".join(expected)
        assert len(region.params_ends) - 1 - rules[0] == region.params_ends.tolist().index(10_001)
        axis = text.splitlines()[[line[8:9] for line in text.splitlines()].index("└") + 1]
        assert axis.split()[0] == "FLOPs"
        assert {"500K", "900K", format_quantity(int(region.flops_ends[0]), 3)} <= set(axis.split())
        assert max(map(len, text.splitlines())) <= width
        assert "estimated from 4,900 draws; lines: the budget" in text

    def test_the_exponent_of_large_numbers_is_a_letter(self) -> None:
        text = shown(shipped("sret_tiny"), Budget(), samples=0)
        assert any("a" in line for line in grid_of(text))
        assert "┼" not in "".join(grid_of(text))

    def test_no_colours_when_piped_and_the_budget_is_bright_on_a_terminal(self) -> None:
        assert "\x1b" not in shown(self.SPACE, self.BUDGET, samples=0)
        file = StringIO()
        console = Console(file=file, width=80, force_terminal=True, color_system="truecolor", legacy_windows=False)
        console.print(region_text(FeasibleSet(self.SPACE, self.BUDGET), 80))
        assert "\x1b[38;2;" in file.getvalue()
        assert "\x1b[2m" in file.getvalue()

    def test_a_space_of_one_network(self) -> None:
        text = shown(space_of(STAGE), Budget(), samples=0)
        assert grid_of(text) == ["│0"]
        ends = text.partition("Ends of the space")[2]
        labels = [line.split("│")[1].strip() for line in ends.splitlines() if line.startswith("│")]
        assert labels == ["least", "FLOPs", "params", "most", "FLOPs", "params"]

    @pytest.mark.slow
    def test_png(self, tmp_path: Path) -> None:
        path = tmp_path / "region.png"
        text = shown(shipped("sret_tiny"), Budget(flops_max=10**9), samples=0, picture=path)
        assert text.endswith(f"Picture: {path}\n")
        assert path.read_bytes().startswith(b"\x89PNG")
        assert [file.name for file in tmp_path.iterdir()] == ["region.png"]

    def test_png_marks_the_published_networks_that_the_costs_reach(self) -> None:
        axes = Figure().subplots()
        mark_presets(axes, CostRegion.of(FeasibleSet(shipped("sret_tiny"), Budget()), 8, 8, 49))
        found = {points.get_label(): points.get_offsets().tolist() for points in axes.collections}
        names = ["sret_t", "sret_t_unsliced", "sret_lt", "sret_lt_unsliced", "sret_lt_16_14_1"]
        costs = {name: cost_of(preset(name)) for name in names}
        assert found == {name: [[cost.flops / 1e9, cost.params / 1e6]] for name, cost in costs.items()}

    @pytest.mark.parametrize(
        ("name", "message"),
        [("none/x.png", "there is no folder .*none; make it first"), ("x.pdf", "must be a PNG file, got the ending"),
         ("x", "must be a PNG file"), ("folder.png", "is a folder: give a file in it")],
    )  # fmt: skip
    def test_refused_before_anything_is_shown(self, name: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "folder.png").mkdir()
        file = StringIO()
        with pytest.raises(UserError, match=message):
            show_space(shipped("smoke"), Budget(), Console(file=file), samples=0, seed=0, picture=tmp_path / name)
        assert file.getvalue() == ""
        assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]

    @pytest.mark.slow
    def test_a_place_that_cannot_be_written_is_one_clear_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, content: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("trials.report.cost_picture.write_atomically", full)
        with pytest.raises(UserError, match=r"x\.png: the picture cannot be written: No space left on device; give an"):
            shown(shipped("smoke"), Budget(), samples=0, picture=tmp_path / "x.png")


def test_an_impossible_budget_is_refused() -> None:
    with pytest.raises(BudgetError, match="no network of smoke"):
        shown(shipped("smoke"), Budget(flops_max=10))
