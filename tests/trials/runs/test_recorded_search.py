"""A search on disk: its options, its space, and what its header says of latency."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from sret_nas.arch.budget import Budget
from sret_nas.errors import ConfigError, UserError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.latency.table import LatencyTable
from tests.latency_profiles import SMALL, pretended_profile
from trials.runs.options import SearchOptions
from trials.runs.recorded_search import RecordedSearch, domain_of, recorded_profile
from trials.runs.records import HEADER_KEYS, Records
from trials.search.search import recorded

HEADER: dict[str, Any] = {"latency": recorded(pretended_profile(SMALL))}


def changed(**entries: Any) -> dict[str, Any]:
    """Returns the header, in whose latency some entries are others."""
    header = copy.deepcopy(HEADER)
    header["latency"].update(entries)
    return header


@pytest.mark.parametrize(
    ("given", "message"),
    [({"options": {"trials": "many"}}, "trials: "), ({"space": {**SMALL.to_dict(), "stages": 3}}, "stages: ")],
)
def test_options_and_spaces_that_are_none_are_refused_with_the_run_and_the_key(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    header: dict[str, Any] = {key: {} for key in HEADER_KEYS}
    header |= {"command": [], "device": "cpu", "space": SMALL.to_dict(), "space_digest": SMALL.digest}
    header |= {"data": {"summary": "", "digest": "", "classes": 2}, **given}
    with Records(tmp_path / "run") as records:
        records.start(header)
    with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path / 'run'))}: .*{message}"):
        RecordedSearch.open(tmp_path / "run")


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


def test_candidates_are_within_the_latency_that_the_search_was_bounded_by() -> None:
    profile = pretended_profile(SMALL)
    table = LatencyTable(SMALL, profile)
    latencies = sorted(table.latency(arch) for arch in FeasibleSet(SMALL, Budget()))
    bound = latencies[len(latencies) // 3]
    options = SearchOptions.parse({"latency_budget": f"{bound}us"}, "search")
    found = {candidate.arch.arch_id for candidate in domain_of(SMALL, options, profile)}
    within = {arch.arch_id for arch in FeasibleSet(SMALL, Budget()) if table.latency(arch) <= bound}
    assert found == within
    assert len(within) < len(latencies)
