"""What the Ray engine refuses: addresses at which there is no Ray, and impossible shares of a machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray

from sret_nas.errors import UserError
from tests.trials.engines.jobs_for_ray import look_around
from trials.engines import ray_session
from trials.engines.ray import RayEngine

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "^no Ray answers at 127.0.0.1:1 .*Connection refused"),
        ("ray://127.0.0.1:10001", "must be auto or HOST:PORT, got ray://"),
        ("nonsense", "nonsense leads to no cluster"),
        ("no-such-host.invalid:6379", "no-such-host.invalid:6379"),
    ],
)
def test_a_wrong_address_is_refused(address: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        RayEngine(look_around, address=address)
    assert "\n" not in str(refused.value)


@contextmanager
def server(answer: bytes | None) -> Iterator[int]:
    """Yields the port of a server that is not Ray, and answers the first bytes in some way or not at all."""
    with socket.create_server(("", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                while connection.recv(1024) and answer is None:  # until the other side has had enough
                    pass
                connection.sendall(answer or b"")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            b"HTTP/1.0 505 HTTP Version Not Supported\r\n\r\n",
            "answers, but is not a Ray cluster: start one",
        ),
        (b"", "answers, but is not a Ray cluster: start one"),
        (None, "no Ray answers at 127.0.0.1:.*timed out"),
    ],
)
def test_what_answers_and_is_no_ray_is_refused(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, message: str
) -> None:
    monkeypatch.setattr(ray_session, "ANSWER_SECONDS", 0.5)
    with server(answer) as port, pytest.raises(UserError, match=message) as refused:
        RayEngine(look_around, address=f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus_per_trial": 0.0}, "a trial must have more than 0 CPUs, got 0: raise --threads"),
        ({"gpus_per_trial": -1.0}, "--gpus-per-trial .* got -1"),
        ({"gpus_per_trial": 1.5}, "--gpus-per-trial .* got 1.5"),
    ],
)
def test_impossible_shares_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RayEngine(look_around, **options)
