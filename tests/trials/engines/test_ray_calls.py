"""Calls to a head of Ray that does not answer."""

from __future__ import annotations

import signal
import threading

import pytest
from ray.exceptions import RayError

from trials.engines import ray_calls
from trials.engines.ray_calls import HeadLostError, call_with_timeout

pytestmark = pytest.mark.slow


class TestAHeadThatDoesNotAnswer:
    """Calls to it are made to wait, as Ray waits when the head is lost."""

    def test_ctrl_c_gets_through(self) -> None:
        released = threading.Event()
        threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            call_with_timeout(released.wait, "the cluster")
        released.set()

    def test_after_a_while_it_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray_calls, "HEAD_SECONDS", 0.1)
        released = threading.Event()
        with pytest.raises(HeadLostError, match=r"^the cluster has not answered for 0.1 s, so .*--resume"):
            call_with_timeout(released.wait, "the cluster")
        released.set()
        assert issubclass(HeadLostError, OSError), "which the command line tells in a line"

    def test_answers_and_errors_come_back(self) -> None:
        assert call_with_timeout(lambda: 7, "") == 7
        with pytest.raises(RayError, match="what Ray says"):
            call_with_timeout(self.fail, "")

    @staticmethod
    def fail() -> None:
        raise RayError("what Ray says")
