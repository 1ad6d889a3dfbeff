"""How the engine on Ray Tune hears of ends, without a Ray."""

from __future__ import annotations

from trials.engines.ray_tune import RayTuneEngine
from trials.engines.ray_tune_desk import Desk, TuneJob
from trials.engines.results import Failure


def test_the_late_end_of_a_job_is_not_taken_for_that_of_its_repetition() -> None:
    """A job that was suspended too long has been submitted again, under the same id, when Tune tells of its death."""
    engine = RayTuneEngine.__new__(RayTuneEngine)
    engine._desk, engine._exchange, engine._failed = Desk(), None, []
    old, new = (TuneJob(7, f"{number:05d}-trial-7", {}, 600.0) for number in (1, 2))
    engine._jobs = {7: new}
    engine._desk.ended.put((old, Failure(cause="worker died", message="killed")))
    assert engine._next_outcomes() == []
    engine._desk.ended.put((new, {"error": 0.5}))
    assert [(outcome.job_id, outcome.result) for outcome in engine._next_outcomes()] == [(7, {"error": 0.5})]
    assert engine._jobs == {}
