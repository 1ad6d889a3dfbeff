"""What `soft-labels make` takes, which options go with whose images, and how many epochs are labelled."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sret_nas.errors import ConfigError
from trials.runs.soft_label_options import OF_SEARCH, OF_TRAIN, SoftLabelOptions


def options(**given: Any) -> SoftLabelOptions:
    return SoftLabelOptions.parse({"teacher": "resnet18", **given}, "soft-labels make")


def test_what_is_not_given() -> None:
    """The labels are for `train`, of what the teacher and the data decide."""
    taken = options(epochs=1)
    assert (taken.made_for, taken.temperature, taken.top, taken.batch_size) == ("train", 1.0, 10, 64)
    assert taken.skip_broken is False
    unknown = ("teacher_checkpoint", "supernet_images", "recipe", "image_size", "channels", "data_workers")
    assert {getattr(taken, name) for name in unknown} == {None}


OTHER_PURPOSE: list[tuple[dict[str, Any], str]] = [
    ({"made_for": "search", "recipe": "small"}, "--recipe goes with --for train, got --for search"),
    ({"made_for": "search", "channels": 3}, "--channels goes with --for train, got --for search"),
    ({"made_for": "search", "data_workers": 0}, "--data-workers goes with --for train, got --for search"),
    ({"supernet_images": 640}, "--supernet-images goes with --for search, got --for train"),
    ({"skip_broken": True}, "--skip-broken goes with --for search, got --for train"),
]


@pytest.mark.parametrize(("given", "message"), OTHER_PURPOSE)
def test_an_option_without_an_effect_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        options(epochs=1, **given)


def test_every_option_of_one_purpose_is_among_those_that_are_refused() -> None:
    assert {*OF_TRAIN, *OF_SEARCH} == {name for given, _ in OTHER_PURPOSE for name in given} - {"made_for"}


@pytest.mark.parametrize(
    "given",
    [
        {"epochs": 1, "recipe": "small", "channels": 3, "data_workers": 0},
        {"made_for": "search"},
        {"made_for": "search", "epochs": 3, "skip_broken": True},
        {"made_for": "search", "supernet_images": 640},
        {"epochs": 1, "batch_size": 1, "top": 32_767},
    ],
)
def test_what_goes_together_is_taken(given: dict[str, Any]) -> None:
    taken = options(**given).model_dump()
    assert {name: taken[name] for name in given} == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "--epochs must say how many epochs of images to label"),
        (
            {"made_for": "search", "epochs": 3, "supernet_images": 640},
            "--epochs and --supernet-images exclude each other: both say how many epochs to label",
        ),
        ({"made_for": "nobody"}, "--for: must be 'train' or 'search', got 'nobody'"),
        ({"epochs": 0}, "epochs: must be greater than or equal to 1, got 0"),
        ({"epochs": 1, "top": 32_768}, "top: must be less than or equal to 32767, got 32768"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        options(**given)


@pytest.mark.parametrize(
    ("given", "num_train_images", "epochs"),
    [
        ({"epochs": 7}, 1000, 7),
        ({"supernet_images": 640}, 128, 5),  # 10 batches of 64, of which an epoch has 2
        ({"supernet_images": 640}, 1000, 1),
        ({}, 128, 20),  # a supernet's default
        ({}, 100_000, 3),  # of 3,125 batches, where an epoch has 1,562
    ],
)
def test_as_many_epochs_are_labelled_as_are_trained(given: dict[str, Any], num_train_images: int, epochs: int) -> None:
    assert options(made_for="search", **given).num_epochs(num_train_images) == epochs


def test_the_side_is_that_of_the_students_images() -> None:
    assert options(epochs=1).side is None  # the teacher's
    assert options(epochs=1, image_size=32).side == 32
    assert options(made_for="search").side == 40
    assert options(made_for="search", image_size=32).side == 32
