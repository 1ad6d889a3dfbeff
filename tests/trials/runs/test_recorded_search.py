"""What a search's header says of the latency of its space."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from sret_nas.errors import ConfigError, UserError
from tests.latency_profiles import SMALL, pretended_profile
from trials.runs.recorded_search import recorded_profile
from trials.search.search import recorded

HEADER: dict[str, Any] = {"latency": recorded(pretended_profile(SMALL))}


def changed(**entries: Any) -> dict[str, Any]:
    """Returns the header, in whose latency some entries are others."""
    header = copy.deepcopy(HEADER)
    header["latency"].update(entries)
    return header


def test_the_profile_is_the_one_that_was_recorded() -> None:
    assert recorded_profile(HEADER, Path("run")) == pretended_profile(SMALL)


@pytest.mark.parametrize("header", [{}, {"latency": None}])
def test_a_search_without_latency_has_no_profile(header: dict[str, Any]) -> None:
    """The oldest records have no such key."""
    assert recorded_profile(header, Path("run")) is None


def test_a_profile_that_has_changed_is_refused() -> None:
    with pytest.raises(UserError, match=r"^run cannot be resumed: the latency profile in its records has changed$"):
        recorded_profile(changed(digest="0" * 12), Path("run"))
    profile = HEADER["latency"]["profile"]
    other = {**profile, "coefficients": [2.0, *profile["coefficients"][1:]]}
    with pytest.raises(UserError, match="the latency profile in its records has changed"):
        recorded_profile(changed(profile=other), Path("run"))


def test_what_is_no_profile_is_refused_with_the_run_and_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^run: latency profile: rounds: "):
        recorded_profile(changed(profile={**HEADER["latency"]["profile"], "rounds": "many"}), Path("run"))
