"""What `landscape` takes: defaults, bounds, rules between options, and where the points lie."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sret_nas.errors import ConfigError
from trials.runs.landscape_options import ENGINE_FIELDS, LandscapeOptions


def options(**given: Any) -> LandscapeOptions:
    return LandscapeOptions.parse(given, "landscape")


def test_what_is_not_given() -> None:
    taken = options()
    assert (taken.part, taken.images, taken.points, taken.span) == ("train", 1000, 21, 1.0)
    assert (taken.pairs, taken.surfaces, taken.loss, taken.stem_statistics) == (3, 1, "both", "kept")
    assert (taken.recursions, taken.recipe, taken.batch_size) == (None, None, 64)


def test_a_resumed_landscape_may_be_computed_elsewhere() -> None:
    assert {"engine", "ray_address", "workers", "gpus_per_trial"} == ENGINE_FIELDS


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("points", 3, 1001), ("pairs", 1, 100), ("surfaces", 0, 100), ("images", 2, 10**7)],
)
def test_numbers_have_bounds(name: str, least: int, most: int) -> None:
    others = {"pairs": 100} if name == "surfaces" else {"surfaces": 0} if name == "pairs" else {}
    for value in (least, most):
        assert getattr(options(**{**others, name: value}), name) == value
    step = 2 if name == "points" else 1  # an even number is refused for another reason
    for value, message in ((least - step, "greater than or equal to"), (most + step, "less than or equal to")):
        with pytest.raises(ConfigError, match=f"{name}: must be {message} .*got {value}"):
            options(**{**others, name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"points": 4}, "--points must be odd, so that the network itself is a point, got 4"),
        ({"surfaces": 3, "pairs": 2}, "--surfaces must be at most --pairs, got 3 of 2"),
        ({"recipe": "small", "loss": "plain"}, "--recipe decides the training's loss, but --loss plain leaves it out"),
        ({"span": 0.0}, "span: must be greater than 0"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        options(**given)


@pytest.mark.parametrize(
    "given", [{"surfaces": 2, "pairs": 2}, {"recipe": "small", "loss": "training"}, {"recipe": "small"}]
)
def test_what_goes_together_is_taken(given: dict[str, Any]) -> None:
    taken = options(**given).model_dump()
    assert {name: taken[name] for name in given} == given


def test_the_outermost_points_lie_at_the_span() -> None:
    taken = options(points=5, span=3.0)
    assert (taken.half, taken.step) == (2, 1.5)


def test_only_a_plain_landscape_leaves_the_trainings_loss_out() -> None:
    found = {loss: options(loss=loss).has_training_loss for loss in ("plain", "training", "both")}
    assert found == {"plain": False, "training": True, "both": True}


def test_a_recipes_file_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert options(recipe="own.yaml").recipe == str(tmp_path / "own.yaml")
