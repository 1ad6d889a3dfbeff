"""What a running search shows."""

from __future__ import annotations

import io
import random

import pytest
from rich.console import Console

from sret_nas.quantities import format_seconds
from tests.architectures import random_arch
from tests.trials.scripted_engine import Clock
from trials.engines.results import Failure, TargetCost, TrialResult
from trials.report.progress import SearchProgress, describe_trial
from trials.runs.compute_budget import ComputeBudget, ComputeUsage
from trials.runs.events import parse_event
from trials.runs.records import HEADER_KEYS
from trials.runs.trial import Trial
from trials.strategies.strategy import Candidate


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.44, "0.4 s"),
        (2, "2 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (1.9, "1.9 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (4320, "1 h 12 min"),
        (-3, "0 s"),
    ],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


FREE = ComputeBudget(ComputeUsage(), expected=1.0, time_budget=None, gpu_hours=None, gpus_per_trial=1.0)


def finished_trial(number: int) -> Trial:
    """Returns a trial as wide as they come."""
    arch = random_arch(random.Random(0))
    cost = TargetCost(flops=1_234_499_999, params=12_344_999, image_size=224, classes=1000)
    result = TrialResult(
        error=0.99999, cross_entropy=1.0, error_by_depth=[], train_loss=0, train_steps=1, train_images=1,
        train_seconds=1, seconds=999.4, target=cost, proxy=cost, proxy_arch=arch, device="cpu", peak_memory_mb=1,
    )  # fmt: skip
    return Trial(number, Candidate(arch, "sandwich"), result=result)


def test_a_trial_s_line_fits_80_columns() -> None:
    line = describe_trial(finished_trial(9), ("error", "flops"))
    assert line.startswith("trial 9 ")
    assert line.endswith(" error 100.00%, 1.234G FLOPs, 12.34M params, sandwich, 999 s")
    assert len(line) <= 80


def test_a_replay_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, text = Clock(), io.StringIO()
    monkeypatch.setattr("trials.report.progress.time", clock)
    with SearchProgress(Console(file=text, width=80), 3000, 2000, None, FREE, ("error",)) as progress:
        for done in range(1, 26):
            clock.now += 1.0
            progress.replayed(done, 2000)
    assert text.getvalue().splitlines() == [
        "replaying what is on record: 10 of 2,000 trials",
        "replaying what is on record: 20 of 2,000 trials",
    ]


def test_without_a_terminal_every_line_counts_and_nothing_else_is_written() -> None:
    text = io.StringIO()
    failed = Trial(4, finished_trial(4).candidate, failure=Failure(cause="diverged", message="nan [/] loss"))
    with SearchProgress(
        Console(file=text, width=80),
        num_trials=7,
        num_known=3,
        best_error=None,
        compute_budget=FREE,
        objectives=("error", "flops"),
    ) as progress:
        progress.trial_ended(finished_trial(5), 0.4, is_news=False)
        progress.trial_ended(finished_trial(3), 0.5, is_news=True)
        progress.trial_ended(failed, 0.5, is_news=True)
    first, second = text.getvalue().splitlines()
    assert first.startswith("trial 3 ")
    assert "[5/7, " in first
    assert "failed: diverged (nan [/] loss)" in second
    assert "[6/7, " in second


def test_a_terminal_s_bar_tells_what_is_spent_while_no_trial_ends() -> None:
    text = io.StringIO()
    usage = ComputeUsage()
    usage.apply(
        parse_event(
            {"event": "header", "format": 1, "time": 1000.0, **{key: {} for key in HEADER_KEYS} | {"command": []}}
        )
    )
    bounded = ComputeBudget(usage, expected=1.0, time_budget=7200.0, gpu_hours=None, gpus_per_trial=1.0)
    console = Console(file=text, width=200, force_terminal=True)
    with SearchProgress(
        console, num_trials=7, num_known=3, best_error=None, compute_budget=bounded, objectives=("error",)
    ):
        pass
    assert "of 2 h 0 min spent, 0 s left" in text.getvalue()  # it began in 1970
