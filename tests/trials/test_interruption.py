"""Interruptions end a run even where Python drops the exception."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import PydanticSerializationError

from trials.interruption import (
    SECONDS_TO_END,
    StepAborted,
    defer_interrupts,
    handle_interruptions,
    ignore_signals_after_interrupt,
    interrupt_threads,
    raise_if_interrupted,
    unwrapped_interrupts,
)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    handle_interruptions()
    yield
    signal.alarm(0)  # or the system would end the tests
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_thread_that_remembers_hears_of_an_interruption_from_another() -> None:
    remembers, is_interrupted, heard = threading.Event(), threading.Event(), list[list[int]]()

    def work() -> None:
        with defer_interrupts() as remembered:
            remembers.set()
            is_interrupted.wait(10)
            heard.append([*remembered])

    assert not interrupt_threads()
    thread = threading.Thread(target=work)
    thread.start()
    assert remembers.wait(10)
    assert interrupt_threads()
    is_interrupted.set()
    thread.join()
    assert heard == [[signal.SIGINT]]
    assert not interrupt_threads()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_interrupts(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_nothing_is_raised_without_a_signal() -> None:
    raise_if_interrupted()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it is what the test provokes
def test_one_that_a_callback_from_c_drops_is_noticed_later_and_once() -> None:
    """A ctypes callback cannot raise. Python prints the exception and drops it, as in a finaliser."""

    @ctypes.CFUNCTYPE(None)
    def called_from_c() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    called_from_c()
    with pytest.raises(KeyboardInterrupt):
        raise_if_interrupted()
    raise_if_interrupted()


class Interrupting(BaseModel):
    """A model whose serialisation gets the signal in the middle of it."""

    @model_serializer(mode="wrap")
    def serialised(self, plain: SerializerFunctionWrapHandler) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return plain(self)


def test_one_that_a_library_wraps_in_its_own_is_unwrapped() -> None:
    with pytest.raises(PydanticSerializationError, match="KeyboardInterrupt"):
        Interrupting().model_dump_json()
    handle_interruptions()
    with pytest.raises(KeyboardInterrupt), unwrapped_interrupts():
        Interrupting().model_dump_json()
    raise_if_interrupted()  # it is not raised once more


def test_an_error_that_no_signal_caused_stays_itself() -> None:
    with pytest.raises(ValueError, match="KeyboardInterrupt"), unwrapped_interrupts():
        raise ValueError("no signal came, although it says KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(ValueError, match="of its own"), unwrapped_interrupts():
        raise ValueError("of its own")


def test_where_one_is_remembered_the_second_gives_up_and_sets_the_clock() -> None:
    """After that, each signal interrupts as before."""
    with defer_interrupts() as remembered:
        signal.raise_signal(signal.SIGINT)
        assert remembered == [signal.SIGINT]
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
        with pytest.raises(StepAborted):
            signal.raise_signal(signal.SIGTERM)
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= SECONDS_TO_END
    raise_if_interrupted()
    with pytest.raises(KeyboardInterrupt) as caught:
        signal.raise_signal(signal.SIGINT)
    assert not isinstance(caught.value, StepAborted)


def test_one_before_counts() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with defer_interrupts(), pytest.raises(StepAborted):
        signal.raise_signal(signal.SIGINT)


def test_once_all_has_ended_a_second_one_only_sets_the_clock() -> None:
    with pytest.raises(KeyboardInterrupt), ignore_signals_after_interrupt():
        signal.raise_signal(signal.SIGINT)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= SECONDS_TO_END


def test_signals_that_torchrun_passes_on_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with defer_interrupts() as remembered:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
    assert remembered == [signal.SIGINT] * 3
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.slow
def test_after_the_second_the_system_ends_a_process_that_does_not() -> None:
    """The process ignores all exceptions, and thus SIGTERM too."""
    script = (
        "import signal, threading; from trials import interruption;"
        "interruption.SECONDS_TO_END = 1; interruption.handle_interruptions()\n"
        "while True:\n"
        "    try:\n"
        "        print('on', flush=True); threading.Event().wait()\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        assert process.stdout.readline() == "on\n"
        process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGALRM
