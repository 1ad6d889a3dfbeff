"""The connection of a search to Ray: to one that is started on this machine for it alone, or to a cluster."""

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
"""How often it is tried."""
LEAVE_SECONDS = 4.0
"""How long leaving a cluster may take, and a Ray on this machine its end, before it is left or killed."""

_PACKAGES = ("sret_nas", __name__.partition(".")[0])
"""What holds this project's code: in a checkout this package stands beside `sret_nas`, once installed inside it."""


class Session(Protocol):
    """A connection to Ray, one per process."""

    name: str
    """What it is connected to, for people."""
    shares_files: bool
    """Whether workers see the files of this machine."""

    def end(self) -> None:
        """Ends the connection, and what was started for it."""


class OwnRay:
    """A Ray that is started on this machine for this process alone.

    Nobody else can have it run code: it listens on the loopback interface, wants a token that only this process and
    its children know, and keeps its sockets in a folder that only this user may enter.
    """

    name = "this machine"
    shares_files = True

    def __init__(self, num_cpus: int | None) -> None:
        """Raises `UserError` if Ray does not start."""
        _require_no_connection()
        # Ray would write a token of its own into the home directory
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
    """A Ray that has started, and its address. On a busy machine Ray may give up; then it is tried again."""
    for number in range(1, STARTS + 1):
        head = _Head(num_cpus)
        try:
            return head, head.address()
        except UserError:
            head.end()
            if number == STARTS:
                raise
        except BaseException:
            head.end()
            raise
    raise AssertionError


class _Head:
    """The process that runs `trials.engines.ray_head`, with a folder for what Ray writes."""

    def __init__(self, num_cpus: int | None) -> None:
        # A short name, because sockets lie in it, whose names may not be long. Ray makes its own folder writable for
        # everybody, so that anybody could replace its sockets: it lies inside one that only this user may enter
        self._folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        self._errors = open(Path(self._folder) / "errors", "w+b")  # noqa: SIM115 it is open as long as the process runs
        options = {"num_cpus": num_cpus, "_temp_dir": str(Path(self._folder) / "r")}
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
        """What the process prints once Ray has started. Raises `UserError` if it does not start."""
        assert self._process.stdout is not None
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if line:
            address: str = json.loads(line)
            return address
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        raise UserError(f"Ray cannot be started on this machine: {said[-1] if said else 'it took too long'}")

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # which it takes for its end
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # whatever is left of it and of what it started
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Cluster:
    """A Ray that is there, at `auto` or HOST:PORT. It is left as it is; workers get this project's code sent."""

    shares_files = False

    def __init__(self, address: str, package: str) -> None:
        """`package` is the one, beside this project's, that holds what workers run. Raises `UserError`."""
        _require_no_connection()
        found = _find(address)
        named = address if address == found else f"{address} (to Ray {found})"
        _require_answer(found, named)
        self.name = f"the cluster at {named}"
        code = [_path_of(importlib.import_module(name)) for name in dict.fromkeys([*_PACKAGES, package])]
        # `auto` is passed on as it is: with it, Ray takes the token that lies in the home directory
        _connect(address if address == "auto" else found, self.name, runtime_env={"py_modules": code})

    def end(self) -> None:
        _disconnect()


def _path_of(module: ModuleType) -> str:
    """A package's folder or a module's file. Ray takes modules themselves as well, but not in a submitted job."""
    assert module.__file__ is not None
    file = Path(module.__file__)
    return str(file.parent if file.name == "__init__.py" else file)


def _require_no_connection() -> None:
    if ray.is_initialized():
        raise UserError("this process is connected to a Ray already: call ray.shutdown() first, or use another process")


def _find(address: str) -> str:
    """HOST:PORT of an address that a user gave. Raises `UserError` if it is none."""
    if "://" in address:
        raise UserError(f"--ray-address must be auto or HOST:PORT, got {address}: run on a machine of the cluster")
    try:
        found = find_cluster(address)
    except (ConnectionError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--ray-address {address} leads to no cluster: {reason}") from None
    return found


def _require_answer(address: str, named: str) -> None:
    """Raises `UserError` if nothing at HOST:PORT answers as a Ray does; `named` is how the user knows the address."""
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
    """Connects this process; `name` is what people know the cluster by.

    Raises `UserError` if it has other versions or does not let this process in.
    """
    try:
        hide_worker_deaths(True)
        with signal_handlers_kept(), stderr_hidden():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (RuntimeError, ConnectionError) as error:
        _disconnect()  # it may have come half way
        raise UserError(_refusal(name, error)) from None


def _refusal(name: str, error: BaseException) -> str:
    """Why a cluster does not take this process, in a line; Ray tells it over several, and in causes of causes."""
    told = "".join(traceback.format_exception(error))
    if "Version mismatch" in told:
        return f"{name} must have the versions of this environment: {' '.join(str(error).split())}"
    if "InvalidAuthToken" in told or "AuthenticationError" in told:
        return (
            f"{name} asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to what its head node has in ~/.ray/auth_token"
        )
    return f"{name} cannot be joined: {' '.join(str(error).split())}"


def _set_authentication(variables: dict[str, str | None]) -> dict[str, str | None]:
    """Sets environment variables, or unsets those that are None, and returns what they were."""
    before = {name: os.environ.get(name) for name in variables}
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    reload_authentication()
    return before


def _disconnect() -> None:
    """Waits no longer than it may: what a cluster that is gone would answer is waited for in vain."""
    thread = threading.Thread(target=ray.shutdown, daemon=True)
    thread.start()
    thread.join(LEAVE_SECONDS)
    hide_worker_deaths(False)
