"""The connection to Ray: how it ends. What it connects to: `test_ray`; what it does not: `test_ray_refusals`."""

from __future__ import annotations

import signal
import threading

import pytest
import ray

from trials.engines import ray_session
from trials.interruption import SECONDS_TO_END


def test_an_interrupt_waits_until_ray_has_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freeing a reference of Ray's meanwhile, as unwinding does, would end the process with exit code 1."""
    may_end, order = threading.Event(), list[str]()

    def shutdown() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        may_end.wait(10)
        order.append("shut down")

    def release(signum: int, frame: object) -> None:
        threading.Timer(0.05, may_end.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "shutdown", shutdown)
    before = signal.signal(signal.SIGINT, release)
    try:
        with pytest.raises(KeyboardInterrupt):
            ray_session._disconnect()
        order.append("interrupted")
    finally:
        signal.signal(signal.SIGINT, before)
    assert order == ["shut down", "interrupted"]


def test_a_cluster_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(ray_session, "LEAVE_SECONDS", 0.01)
    monkeypatch.setattr(ray, "shutdown", ended.wait)
    ray_session._disconnect()
    ended.set()


def test_a_slow_end_is_over_before_the_timer_of_a_second_ctrl_c() -> None:
    """CI met it: with 4 seconds for each of the two waits, the timer of 8 seconds ended a process without a word."""
    assert 2 * ray_session.LEAVE_SECONDS + 1 < SECONDS_TO_END
