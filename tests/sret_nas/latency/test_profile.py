"""What a latency profile records: its keys and its digest stay those of earlier versions."""

from __future__ import annotations

import json

from sret_nas.files import short_digest
from sret_nas.latency.profile import LatencyProfile

RECORDED = {
    "setting": {"device": "cpu (test)", "threads": 1, "batch_size": 1, "torch": "2.9.0", "image_size": 32},
    "space_digest": "0123456789ab",
    "parts": [[["head", 1, [64, 10]], 2.5]],
    "coefficients": [1.0, 2.0, 3.0, 4.0],
    "accuracy": None,
    "rounds": 3,
    "seconds": 1.5,
}


def test_a_recorded_profile_is_read_and_written_with_the_same_keys() -> None:
    profile = LatencyProfile.model_validate(RECORDED)
    assert profile.setup.device == "cpu (test)"
    assert profile.model_dump(mode="json") == json.loads(profile.model_dump_json()) == RECORDED


def test_the_digest_is_of_the_recorded_keys() -> None:
    kept = {key: RECORDED[key] for key in ("setting", "space_digest", "parts", "coefficients")}
    assert LatencyProfile.model_validate(RECORDED).digest == short_digest(json.dumps(kept, sort_keys=True))
