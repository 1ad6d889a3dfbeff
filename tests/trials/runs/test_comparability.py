"""What numbers of searches are of, and how their proxies came to their weights, as users read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trials.planted_search import write_search
from trials.data import DataConfig, prepare
from trials.runs.comparability import differences, how_it_was_trained, largest_group, what_is_scored
from trials.runs.recorded_search import RecordedSearch


@pytest.fixture
def search(tmp_path: Path) -> RecordedSearch:
    return write_search(tmp_path / "run", best_by="proxy")


def changed(search: RecordedSearch, **options: Any) -> RecordedSearch:
    return replace(search, options=search.options.model_copy(update=options))


def trained(search: RecordedSearch, header: dict[str, Any], **options: Any) -> dict[str, str]:
    search.history.header.update(header)
    return how_it_was_trained(changed(search, **options))


CONFIG = {"training": {"images": 64_000}}


@pytest.mark.parametrize(
    ("options", "header", "expected"),
    [
        ({"no_supernet": True}, {"proxy": CONFIG}, "from scratch, on 64,000 images"),
        ({"no_supernet": True}, {"proxy": {}}, "from scratch, on unknown length"),
        ({"no_supernet": False}, {"supernet": {"config": CONFIG}}, "inherited from a supernet of 64,000 images"),
        ({"no_supernet": False}, {"supernet": {}}, "inherited from a supernet of unknown length"),
        ({"no_supernet": False}, {"supernet": None}, "inherited from a supernet of unknown length"),
        (
            {"no_supernet": False},
            {"supernet": {"given": {"digest": "0123456789abcdef"}, "config": CONFIG}},
            "inherited from a supernet of digest 01234567",
        ),
    ],
)
def test_where_weights_come_from(
    search: RecordedSearch, options: dict[str, Any], header: dict[str, Any], expected: str
) -> None:
    assert trained(search, header, **options)["weights"] == expected


def test_what_was_learned(search: RecordedSearch) -> None:
    assert trained(search, {})["labels"] == "the images' classes"
    labels = {"soft_labels": {"digest": "0123456789abcdef"}}
    assert trained(search, labels, width_scale=0.5) == {
        "weights": "inherited from a supernet of unknown length",
        "labels": "soft labels of digest 01234567",
        "width of the proxy": "0.5 of the target's",
    }


def test_what_is_scored(search: RecordedSearch) -> None:
    search.history.header["data"] = {
        "summary": "flowers: 5 classes: tulip, rose\n  training: 8",
        "digest": "0123456789",
    }
    scored = what_is_scored(search)
    assert scored["images"] == "flowers (digest 01234567)"
    assert scored["error"] == "every image counts alike"
    other = what_is_scored(changed(search, balanced_error=True))
    assert differences(other, scored) == "error every class counts alike, not every image counts alike"
    assert differences(scored, scored) == ""


@pytest.mark.parametrize(
    ("given", "images"), [(None, "all"), (50, "50"), (1199, "1,199"), (1200, "all"), (5000, "all")]
)
def test_scores_of_part_of_the_images_are_other_scores(given: int | None, images: str, search: RecordedSearch) -> None:
    search.history.header["data"]["summary"] = (
        "flowers: 5 classes\n  training   9,000 images: a\n  validation 1,200 images: b"
    )
    assert what_is_scored(changed(search, val_images_per_trial=given))["validation images of a trial"] == images


def test_the_number_in_a_summary_is_that_of_the_images(tmp_path: Path, search: RecordedSearch) -> None:
    data = prepare(DataConfig(source="digits", image_size=8), tmp_path / "prepared")
    search.history.header["data"]["summary"] = data.summary()
    number = len(data.val)
    scored = [what_is_scored(changed(search, val_images_per_trial=given)) for given in (number - 1, number, None)]
    assert differences(scored[0], scored[2]) == f"validation images of a trial {number - 1}, not all"
    assert scored[1] == scored[2]


def test_the_most_that_compare_are_kept_in_their_order(tmp_path: Path) -> None:
    searches = [write_search(tmp_path / name, best_by="proxy") for name in "abcd"]
    for position in (0, 3):
        searches[position] = changed(searches[position], image_size=999)
    assert largest_group(searches) == [searches[0], searches[3]]  # of two equal groups the first
    assert largest_group(searches[1:]) == searches[1:3]
