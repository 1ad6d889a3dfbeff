"""Single steps of the loop of trials, where earlier sessions have recommended networks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trials.search import trial_loop
from trials.search.recommend import ORIGIN
from trials.search.trial_loop import _add, _TrialLoop


def test_weights_of_what_was_recommended_stay(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}").touch()
    dominated = [SimpleNamespace(number=0, origin="additive"), SimpleNamespace(number=1, origin="additive"),
                 SimpleNamespace(number=2, origin=ORIGIN)]  # fmt: skip
    run: Any = SimpleNamespace(
        options=SimpleNamespace(no_supernet=True), weights_path=lambda trial: tmp_path / f"{trial.number}",
        history=SimpleNamespace(recommended=SimpleNamespace(networks=[SimpleNamespace(number=1)])),
    )  # fmt: skip
    front: Any = SimpleNamespace(add=lambda trial: dominated)
    _add(SimpleNamespace(number=9), front, run)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def loop_with(**attributes: Any) -> Any:
    loop = object.__new__(_TrialLoop)
    vars(loop).update(attributes)
    return loop


def test_every_enqueued_network_is_asked_although_recommended_trials_have_numbers_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recommended = {number: SimpleNamespace(origin=ORIGIN, candidate=f"recommended {number}") for number in (2, 3)}
    calls: Counter[str] = Counter()
    asked: list[tuple[int, str]] = []
    strategy = SimpleNamespace(
        exclude=lambda candidate: calls.update(excluded=1), adopt=lambda candidate: calls.update(adopted=1),
        ask=lambda: calls.update(asked=1),
    )  # fmt: skip
    loop = loop_with(
        _run=SimpleNamespace(
            options=SimpleNamespace(lookahead=99, trials=4), history=SimpleNamespace(trials=recommended)
        ),
        _order=(), _num_asked=0, _num_excluded=0, _is_exhausted=False, _strategy=strategy,
        compute_budget=SimpleNamespace(exhausted_by=None), _enqueued=["a", "b", "c", "d"],
        _begin=lambda trial, rung: asked.append(trial),
    )  # fmt: skip
    monkeypatch.setattr(trial_loop, "_register", lambda run, number, candidate, origin: (number, candidate))
    loop._ask_ahead()
    assert asked == [(0, "a"), (1, "b"), (4, "c"), (5, "d")]
    assert calls == {"excluded": 2, "adopted": 4}


def test_a_trial_that_was_recommended_and_run_to_its_end_is_not_stopped_by_its_rung(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[Any, ...]] = []
    partial = SimpleNamespace(error=0.5)
    trial = SimpleNamespace(
        number=0, num_partial=1, partial=[partial], candidate="it", has_ended=True, result=SimpleNamespace(error=0.25)
    )
    loop = loop_with(
        _run=SimpleNamespace(
            history=SimpleNamespace(trials={0: trial}), options=SimpleNamespace(objectives=("error",))
        ),
        _order=SimpleNamespace(pop=lambda: 0), _rung={0: 0},
        _rungs=SimpleNamespace(promote=lambda rung, values: False),
        _strategy=SimpleNamespace(
            tell=lambda *arguments: told.append(arguments), tell_partial=lambda *arguments: None
        ),
        _stop=lambda *arguments: told.append(("stopped",)),
    )  # fmt: skip
    for name in ("objective_values", "comparable_values"):
        monkeypatch.setattr(trial_loop, name, lambda result, objectives: (result.error,))
    loop._take_in_next(None)
    assert told == [("it", (0.25,))]
