"""What `profile` prints, rendered at the widths of real terminals."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import StageConfig
from sret_nas.arch.presets import preset
from sret_nas.nn.flops import fvcore_cost
from trials.report.profile import CostMismatchError, cost_differences, show_profile

torch.set_num_threads(1)


def render(arch: ArchConfig, width: int, *, check: bool = False, speed: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_profile(arch, console, name="a [bold] network.yaml", check=check, speed=speed)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows_of(text: str) -> set[tuple[str, ...]]:
    """Returns every line as its words: what a reader sees, without the spacing."""
    return {tuple(line.split()) for line in text.splitlines()}


@pytest.fixture
def tiny_arch() -> ArchConfig:
    stage = StageConfig(width=8, heads=2, blocks=1, recursions=2, groups=(2, 3))
    return ArchConfig(stages=(stage, stage), image_size=32, classes=3)


@pytest.mark.parametrize(
    ("stage", "what"),
    [
        ({"width": 8192, "blocks": 128}, "250M parameters"),
        ({"width": 512, "blocks": 12, "recursions": 16, "groups": (1,) * 16}, "1T FLOPs"),
        ({"blocks": 128, "recursions": 16, "groups": (10**6,) * 16, "nll": "none"}, "200 block applications"),
        ({"groups": (10**6,), "width": 200, "mlp_ratio": 16.0, "nll_ratio": 16.0}, "10M activations in a layer"),
    ],
)
def test_a_gigantic_network_is_costed_and_not_built(stage: dict[str, Any], what: str) -> None:
    fields = {"width": 1, "heads": 1, "blocks": 1, "recursions": 1, "groups": (1,), "mlp_ratio": 1.0, **stage}
    text = render(ArchConfig(stages=(StageConfig(**fields),), image_size=512), 120, check=True, speed=True)
    assert f"fvcore and speed: not looked at, because networks of more than {what} are not built\n" in text
    assert "By operator, 512 px" in text


def test_a_narrow_terminal_gets_rounded_numbers_and_nothing_is_cut() -> None:
    text = render(preset("sret_t"), 50)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 50
    assert ("stage", "1", "270.7M", "24.1", "%", "127.1K", "2.7", "%") in rows_of(text)
    assert "64/2h 2x2 g8,2 int every*1 m3.6" in text


@pytest.mark.parametrize("width", [80, 120])
class TestRendering:
    @pytest.mark.parametrize("name", ["sret_t", "sret_s_unsliced_512"])
    def test_shows_every_part_and_operator_whole(self, width: int, name: str) -> None:
        arch = preset(name)
        text, cost = render(arch, width), cost_of(arch)
        words = rows_of(text)
        for part, terms in cost.parts.items():
            shares = f"{100 * terms.flops / cost.flops:.1f}", f"{100 * terms.params / cost.params:.1f}"
            numbers = (f"{terms.flops:,}", shares[0], "%", f"{terms.params:,}", shares[1], "%")
            assert [row for row in words if row[: len(part.split())] == tuple(part.split()) and row[-6:] == numbers]
        for operator, flops in cost.flops_by_operator().items():
            assert (operator, f"{flops:,}", f"{100 * flops / cost.flops:.1f}", "%") in words
        assert ("total", f"{cost.flops:,}", "100.0", "%", f"{cost.params:,}", "100.0", "%") in words
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width

    def test_widest_stage_still_fits(self, width: int) -> None:
        stage = StageConfig(
            width=1024, heads=128, blocks=128, recursions=16, groups=(1024,) * 16, loop="external", nll="between"
        )
        text = render(ArchConfig(stages=(stage,), image_size=64), width)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
        assert "between, 1024" in text


class TestContent:
    def test_names_the_network_with_its_units(self, tiny_arch: ArchConfig) -> None:
        text = render(tiny_arch, 80)
        assert f"a [bold] network.yaml (id {tiny_arch.arch_id}), 32 px, 3 classes" in text
        assert "FLOPs (multiply-adds for one image)" in text
        assert ("1", "internal", "every,", "8", "2,", "3", "1", "2", "2", "32") in rows_of(text)

    def test_names_what_is_not_the_paper_s(self, tiny_arch: ArchConfig) -> None:
        first = tiny_arch.stages[0].model_copy(update={"inverse": False})
        varied = tiny_arch.model_copy(update={"stages": (first, tiny_arch.stages[1]), "residual": "plain"})
        line = "Variants of the paper's network: stage 1 inverse=false, residual=plain"
        assert line in render(varied, 80).splitlines()
        assert "Variants" not in render(tiny_arch, 80)

    def test_says_where_the_feature_maps_change(self, tiny_arch: ArchConfig) -> None:
        starts = {row[:7] for row in rows_of(render(tiny_arch, 80))}
        assert {
            ("stage", "1", "4", "x", "4", "x", "8"),
            ("pool", "1", "2", "x", "2", "x", "8"),
            ("stage", "2", "2", "x", "2", "x", "8"),
        } <= starts

    @pytest.mark.slow
    def test_check_and_speed_are_shown_only_when_asked(self, tiny_arch: ArchConfig) -> None:
        text = render(tiny_arch, 80, check=True, speed=True)
        assert "fvcore: equal, to the last unit" in text
        assert " ms for one image, " in text
        assert " images/s in batches of 16" in text
        assert "32 px, CPU, 1 thread, medians of 20 passes" in text
        plain = render(tiny_arch, 80)
        assert "fvcore" not in plain
        assert "images/s" not in plain


class TestDifferences:
    def test_a_wrong_closed_form_is_printed_and_raised(
        self, tiny_arch: ArchConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = cost_of(tiny_arch.model_copy(update={"classes": 4}))
        monkeypatch.setattr("trials.report.profile.cost_of", lambda _: wrong)
        linear = cost_of(tiny_arch).flops_by_operator()["linear"]
        difference = f"linear: closed form {linear + 8:,}, fvcore {linear:,}"  # one class more, of width 8
        console = Console(file=io.StringIO(), width=200)
        with pytest.raises(CostMismatchError, match=difference):
            show_profile(tiny_arch, console, name="tiny", speed=False)
        assert isinstance(console.file, io.StringIO)
        assert "fvcore: not equal: params" in console.file.getvalue()
        assert difference in console.file.getvalue()

    def test_equal_costs_differ_nowhere(self, tiny_arch: ArchConfig) -> None:
        assert cost_differences(cost_of(tiny_arch), fvcore_cost(tiny_arch)) == []

    def test_every_departure_is_named_with_both_numbers(self, tiny_arch: ArchConfig) -> None:
        cost, traced = cost_of(tiny_arch), fvcore_cost(tiny_arch)
        conv = traced.flops_by_operator["conv"]
        wrong = replace(
            traced, params=traced.params + 1, flops_by_operator=traced.flops_by_operator | {"conv": conv - 1, "sin": 5}
        )
        assert cost_differences(cost, wrong) == [
            f"params: closed form {cost.params:,}, fvcore {cost.params + 1:,}",
            f"conv: closed form {conv:,}, fvcore {conv - 1:,}",
            "sin: closed form 0, fvcore 5",
        ]
