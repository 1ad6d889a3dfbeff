"""What a target takes from the images, and what is refused before they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from sret_nas.arch.budget import Budget
from sret_nas.errors import BudgetError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.space.search_space import shipped_spaces
from sret_nas.yaml_files import read_yaml
from trials.data import DataConfig, PreparedData, prepare
from trials.runs.option_groups import TargetOptions
from trials.runs.target import require_possible, target_for


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Returns ten classes of grey images."""
    config = DataConfig(image_size=8, max_train=20, max_val=10, max_test=10)
    return prepare(config, tmp_path_factory.mktemp("digits"))


def test_the_target_is_as_the_images_are_and_a_line_says_so(digits: PreparedData) -> None:
    space, line = target_for(TargetOptions(space="smoke").load_space_at_full_depth(), digits)
    assert (space.classes, space.channels, space.image_size) == (10, 1, 224)
    assert line == (
        "Target: 10 classes and 1 channel, as the images have; --target-classes and --target-channels set others"
    )


def test_what_is_asked_for_goes_first(digits: PreparedData) -> None:
    space, line = target_for(TargetOptions(space="smoke", target_classes=7).load_space(), digits)
    assert (space.classes, space.channels) == (7, 1)
    assert line == "Target: 1 channel, as the images have; --target-channels sets another number"
    asked = TargetOptions(space="smoke", target_classes=1000, target_channels=3).load_space()
    assert target_for(asked, digits) == (asked, None)


def test_a_space_s_own_file_goes_before_the_images(digits: PreparedData, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(shipped_spaces()["smoke"].read_text() + "classes: 5\n")
    space, line = target_for(TargetOptions(space=str(path), target_image_size=64).load_space(), digits)
    assert (space.classes, space.channels, space.image_size) == (5, 1, 64)
    assert line is not None
    assert line.startswith("Target: 1 channel,")


def test_shipped_spaces_leave_the_target_to_the_images() -> None:
    for path in shipped_spaces().values():
        assert not {"classes", "channels"} & read_yaml(path).keys()


def test_only_budgets_that_no_images_could_meet_are_refused_beforehand(digits: PreparedData) -> None:
    open_space = TargetOptions(space="smoke").load_space()
    with pytest.raises(BudgetError, match="the nearest"):
        require_possible(open_space, Budget(flops_max=1000))
    asked = TargetOptions(space="smoke", target_classes=1000, target_channels=3).load_space()
    below = Budget(params_max=120_000)
    require_possible(open_space, below)
    with pytest.raises(BudgetError, match="the nearest"):
        require_possible(asked, below)
    for above in (Budget(params_min=10**7), Budget(flops_min=10**9)):  # so many classes might do that
        require_possible(open_space, above)
        with pytest.raises(BudgetError, match="the nearest"):
            FeasibleSet(target_for(open_space, digits)[0], above).check()
