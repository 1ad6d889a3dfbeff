"""The record of a landscape: what is read of it, and which lines are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from sret_nas.errors import ConfigError, UserError
from trials.engines.results import LandscapeResult
from trials.runs.directory import LANDSCAPE_FILE
from trials.runs.landscape_options import LandscapeOptions
from trials.runs.landscape_records import (
    IMAGES,
    NETWORKS,
    GridPoint,
    Header,
    LandscapeRecords,
    PointEvent,
    RecordedNetwork,
    delete_inputs,
    write_header,
)
from trials.runs.record_file import RecordFile

NETWORK = RecordedNetwork(
    name="net", source="net", arch_id="0", recursions=(2,), flops=1, weights="networks/0", weights_digest="0",
    images="images/0", images_digest="0", num_images={"plain": 9}, weight_decay=None, recipe=None,
)  # fmt: skip
HEADER = Header(
    time=1.0, options=LandscapeOptions.parse({"points": 3, "workers": 1}, "landscape").model_dump(mode="json"),
    networks=(NETWORK, NETWORK), data={}, versions={},
)  # fmt: skip
RESULT = LandscapeResult(cross_entropy=0.5, seconds=1.0, device="cpu")
EVENT = PointEvent(network=0, pair=0, i=1, j=0, result=RESULT)


def test_points_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_header(tmp_path, HEADER)
    with LandscapeRecords(tmp_path) as records:
        assert records.points == {}
        records.add(GridPoint(1, 2, -1, 1), RESULT)
        written = records.points
    with LandscapeRecords(tmp_path) as records:
        assert records.points == written == {GridPoint(1, 2, -1, 1): RESULT}
        assert (records.header, records.options.points) == (HEADER, 3)


@pytest.mark.parametrize("is_limited", [True, False])
def test_a_cluster_is_used_whole_unless_the_record_says_that_workers_were_given(
    is_limited: bool, tmp_path: Path
) -> None:
    options = {**HEADER.options, "engine": "ray", "ray_address": "auto"}
    write_header(tmp_path, HEADER.model_copy(update={"options": options, "limits_cluster": is_limited}))
    with LandscapeRecords(tmp_path) as records:
        assert records.options.uses_whole_cluster is not is_limited
        assert records.options.with_given({}, "landscape").uses_whole_cluster is not is_limited


def test_all_pairs_share_the_network_itself() -> None:
    assert GridPoint.of(1, 2, 0, 0) == GridPoint(1, 0, 0, 0)
    assert GridPoint.of(1, 2, 1, 0) == GridPoint(1, 2, 1, 0)
    assert GridPoint.of(1, 2, 0, 1) == GridPoint(1, 2, 0, 1)


@pytest.mark.parametrize("line", [NETWORK, HEADER, EVENT])
def test_what_was_recorded_stays_as_it_is(line: BaseModel) -> None:
    """Neither changed in memory nor read with a key that nobody knows."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(line, next(iter(type(line).model_fields)), "header")
    with pytest.raises(ValidationError, match="key_of_nobody"):
        type(line).model_validate({**line.model_dump(), "key_of_nobody": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": 2}, "network: there are 2 networks, got 2"),
        ({"network": -1}, "network: must be greater than or equal to 0, got -1"),
        ({"pair": -1}, "pair: must be greater than or equal to 0, got -1"),
        ({"i": 1002}, "i: must be less than or equal to 1001, got 1002"),
        ({"j": -1002}, "j: must be greater than or equal to -1001, got -1002"),
    ],
)
def test_a_point_that_cannot_be_is_named_with_line_and_key(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_header(tmp_path, HEADER)
    with RecordFile(tmp_path / LANDSCAPE_FILE) as file:
        file.append(EVENT.model_dump(mode="json"))
        file.append({**EVENT.model_dump(mode="json"), **changes})
    with pytest.raises(ConfigError, match=rf"{LANDSCAPE_FILE}, line 3: {message}"):
        LandscapeRecords(tmp_path)


@pytest.mark.parametrize("number", [0, 13])
def test_a_landscape_has_one_to_twelve_networks(number: int, tmp_path: Path) -> None:
    with RecordFile(tmp_path / LANDSCAPE_FILE) as file:
        file.append({**HEADER.model_dump(mode="json"), "networks": [NETWORK.model_dump(mode="json")] * number})
    with pytest.raises(ConfigError, match=rf"{LANDSCAPE_FILE}, line 1: networks: "):
        LandscapeRecords(tmp_path)


def test_a_record_that_is_refused_is_not_kept_locked(tmp_path: Path) -> None:
    (tmp_path / LANDSCAPE_FILE).touch()
    with pytest.raises(UserError, match="is empty: begin the landscape anew in another folder"):
        LandscapeRecords(tmp_path)
    write_header(tmp_path, HEADER.model_copy(update={"options": {"points": 4}}))
    with pytest.raises(ConfigError, match=rf"{LANDSCAPE_FILE}: --points must be odd"):
        LandscapeRecords(tmp_path)
    with RecordFile(tmp_path / LANDSCAPE_FILE):
        pass  # or it would be in use


def test_what_jobs_read_is_deleted_and_files_of_the_user_stay(tmp_path: Path) -> None:
    ours = [
        tmp_path / NETWORKS / "0.safetensors",
        tmp_path / IMAGES / "0" / "plain.npy",
        tmp_path / IMAGES / "11" / "a",
    ]
    mine = tmp_path / IMAGES / "cat.jpg"
    for path in (*ours, mine):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("dear")
    delete_inputs(tmp_path)
    delete_inputs(tmp_path)  # there is nothing to do
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert not (tmp_path / NETWORKS).exists()
