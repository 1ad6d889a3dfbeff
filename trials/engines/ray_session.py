"""The connection of a search to Ray: to a private Ray on this machine, or to a cluster."""

from __future__ import annotations

import importlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import ray

from sret_nas.errors import UserError

from .ray_internals import (
    LOOPBACK_ENVIRONMENT,
    find_cluster,
    hide_worker_deaths,
    loopback_only,
    reload_authentication,
    signal_handlers_kept,
    speaks_http2,
    stderr_hidden,
)

ANSWER_SECONDS = 3.0
"""How long a cluster may take to answer; Ray itself would wait for ten minutes."""
START_SECONDS = 120.0
"""How long a Ray on this machine may take to start."""
STARTS = 2
"""How often starting it is tried."""
LEAVE_SECONDS = 3.0
"""How long to wait for the end of a connection, and of a Ray on this machine before it is killed.

Both together are shorter than `interruption.SECONDS_TO_END`. On a busy machine, a second Ctrl-C would otherwise end the
process before it has said anything.
"""

_PACKAGES = ("sret_nas", __name__.partition(".")[0])
"""What holds this project's code: in a checkout this package stands beside `sret_nas`, once installed inside it."""


class RaySession(Protocol):
    """A connection to Ray, one per process."""

    name: str
    """Name of the cluster in messages."""
    shares_files: bool
    """Whether workers can read this machine's files."""

    def end(self) -> None:
        """Ends the connection, and everything that was started for it."""


class OwnRay:
    """A Ray on this machine, started for this process alone.

    Nobody else can run code on it: it listens on the loopback interface only, requires a token that only this process
    and its children know, and keeps its sockets in a folder that only this user may enter.
    """

    name = "this machine"
    shares_files = True

    def __init__(self, num_cpus: int | None) -> None:
        """Starts Ray and connects to it. Raises `UserError` if it does not start."""
        _require_no_connection()
        # Without a token, Ray would write one into the home directory.
        self._before = _set_authentication({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
        self._open = ExitStack()
        self._head: _Head | None = None
        try:
            self._open.enter_context(loopback_only())
            self._head, address = _started_head(num_cpus)
            _connect(address, self.name)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        _disconnect()
        if self._head is not None:
            self._head.end()
        self._open.close()
        _set_authentication(self._before)


def _started_head(num_cpus: int | None) -> tuple[_Head, str]:
    """Starts a Ray and returns it with its address. Tries again, since on a busy machine Ray may give up."""
    for attempt in range(1, STARTS + 1):
        head = _Head(num_cpus)
        try:
            return head, head.address()
        except UserError:
            head.end()
            if attempt == STARTS:
                raise
        except BaseException:
            head.end()
            raise
    raise AssertionError


class _Head:
    """The process that runs `trials.engines.ray_head`, with a folder for Ray's files."""

    def __init__(self, num_cpus: int | None) -> None:
        # A short path, because it holds sockets, whose paths are limited to about 100 characters. Ray makes its own
        # folder writable for everybody, so that anybody could replace its sockets. So that folder lies inside this one,
        # which only this user may enter.
        self._folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        self._errors = open(Path(self._folder) / "errors", "w+b")  # noqa: SIM115 it is open as long as the process runs
        options = {"num_cpus": num_cpus, "ray_folder": str(Path(self._folder) / "r")}
        python_path = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.ray_head", self._folder, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **LOOPBACK_ENVIRONMENT, "PYTHONPATH": python_path},
            start_new_session=True,
        )

    def address(self) -> str:
        """Returns the address that the process prints once Ray has started. Raises `UserError` if it does not start."""
        assert self._process.stdout is not None
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()  # empty if the process has ended
        timer.cancel()
        if line:
            address: str = json.loads(line)
            return address
        self._process.wait()
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace").strip().splitlines()
        raise UserError(f"Ray cannot be started on this machine: {errors[-1] if errors else 'it took too long'}")

    def end(self) -> None:
        """Ends Ray on this machine: asks its process to leave, then kills what is left of its process group."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the signal for its end
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # whatever is left of it and its children
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Cluster:
    """A running Ray at `auto` or HOST:PORT. It goes on running afterwards. Workers get this project's code sent."""

    shares_files = False

    def __init__(self, address: str, package: str) -> None:
        """Connects to a cluster. Raises `UserError` if it does not answer, or refuses this process.

        Args:
            address: `auto` or HOST:PORT.
            package: the package with the code of workers, sent beside this project's own.
        """
        _require_no_connection()
        resolved = _resolve(address)
        named = address if address == resolved else f"{address} (to Ray {resolved})"
        _require_answer(resolved, named)
        self.name = f"the cluster at {named}"
        code = [_path_of(importlib.import_module(name)) for name in dict.fromkeys([*_PACKAGES, package])]
        # Ray gets `auto`, not the resolved address: only with `auto` does it use the token in the home directory.
        _connect(address if address == "auto" else resolved, self.name, runtime_env={"py_modules": code})

    def end(self) -> None:
        _disconnect()


def _path_of(module: ModuleType) -> str:
    """Returns a package's folder or a module's file. (Ray accepts modules as well, but not in a submitted job.)"""
    assert module.__file__ is not None
    file = Path(module.__file__)
    return str(file.parent if file.name == "__init__.py" else file)


def _require_no_connection() -> None:
    if ray.is_initialized():
        raise UserError("this process is connected to a Ray already: call ray.shutdown() first, or use another process")


def _resolve(address: str) -> str:
    """Returns the HOST:PORT of a user's address. Raises `UserError` if it is not valid, or leads to no cluster."""
    if "://" in address:
        raise UserError(f"--ray-address must be auto or HOST:PORT, got {address}: run on a machine of the cluster")
    try:
        return find_cluster(address)
    except (ConnectionError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--ray-address {address} leads to no cluster: {reason}") from None


def _require_answer(address: str, named: str) -> None:
    """Raises `UserError` unless HOST:PORT answers as a Ray does. `named` is the address in messages."""
    host, _, port = address.rpartition(":")
    advice = "start one with `ray start --head`, or give --ray-address the HOST:PORT that it printed"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS) as connection:
            answers = speaks_http2(connection, ANSWER_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(f"no Ray answers at {named} ({error}): {advice}") from None
    if not answers:
        raise UserError(f"{named} answers, but is not a Ray cluster: {advice}")


def _connect(address: str, name: str, **options: Any) -> None:
    """Connects this process to Ray; `name` is the cluster's in messages.

    Raises `UserError` if the cluster has other versions or refuses this process.
    """
    try:
        hide_worker_deaths(True)
        with signal_handlers_kept(), stderr_hidden():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (RuntimeError, ConnectionError) as error:
        _disconnect()  # it may be half connected
        raise UserError(_refusal(name, error)) from None


def _refusal(name: str, error: BaseException) -> str:
    """Returns one line on why a cluster refuses this process, from an error of Ray with several lines and causes."""
    details = "".join(traceback.format_exception(error))
    if "Version mismatch" in details:
        return f"{name} must have the versions of this environment: {' '.join(str(error).split())}"
    if "InvalidAuthToken" in details or "AuthenticationError" in details:
        return (
            f"{name} asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to what its head node has in ~/.ray/auth_token"
        )
    return f"{name} cannot be joined: {' '.join(str(error).split())}"


def _set_authentication(variables: dict[str, str | None]) -> dict[str, str | None]:
    """Sets environment variables, or unsets those that are None, and returns their old values."""
    before = {name: os.environ.get(name) for name in variables}
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    reload_authentication()
    return before


def _disconnect() -> None:
    """Disconnects, but stops waiting after `LEAVE_SECONDS`, since a cluster that is gone never answers.

    A Ctrl-C meanwhile is raised only afterwards. Unwinding frees Ray's references, and to free one while Ray shuts down
    makes Ray end this process with exit code 1.
    """
    thread = threading.Thread(target=ray.shutdown, daemon=True)
    interruption: KeyboardInterrupt | None = None
    deadline = time.monotonic() + LEAVE_SECONDS
    try:
        thread.start()  # waits for the thread's beginning, so it can be interrupted as well
    except KeyboardInterrupt as error:
        interruption = error
    while thread.is_alive() and time.monotonic() < deadline:
        try:
            thread.join(deadline - time.monotonic())
        except KeyboardInterrupt as error:
            interruption = error
    hide_worker_deaths(False)
    if interruption is not None:
        raise interruption
