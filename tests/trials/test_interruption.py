"""An interruption ends what runs also where Python drops the exception."""

import ctypes
import os
import signal
from collections.abc import Iterator

import pytest

from trials.interruption import (
    StepGivenUp,
    handle_interruptions,
    interruptions_remembered,
    raise_if_interrupted,
)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    handle_interruptions()
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_interrupts(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_nothing_is_raised_without_a_signal() -> None:
    raise_if_interrupted()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it is what the test provokes
def test_one_that_a_callback_from_c_drops_is_noticed_later_and_once() -> None:
    """What ctypes calls cannot raise: there a Ctrl-C is printed and forgotten, as in a finaliser."""

    @ctypes.CFUNCTYPE(None)
    def called_from_c() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    called_from_c()
    with pytest.raises(KeyboardInterrupt):
        raise_if_interrupted()
    raise_if_interrupted()


def test_where_one_is_remembered_the_second_gives_up() -> None:
    """And after that, each of them interrupts as before."""
    with interruptions_remembered() as remembered:
        signal.raise_signal(signal.SIGINT)
        assert remembered == [signal.SIGINT]
        with pytest.raises(StepGivenUp):
            signal.raise_signal(signal.SIGTERM)
    raise_if_interrupted()
    with pytest.raises(KeyboardInterrupt) as caught:
        signal.raise_signal(signal.SIGINT)
    assert not isinstance(caught.value, StepGivenUp)
