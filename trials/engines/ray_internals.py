"""Everything that this project uses of Ray beyond its documented interface. No other module uses private names of Ray.

Ray may rename or drop these names in any release. Importing this module checks the installed version and every name,
so that an unsuitable Ray is refused in one line before anything is started.
"""

from __future__ import annotations

import os
import pkgutil
import re
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from sret_nas.errors import UserError

MIN_VERSION, VERSION_BELOW = (2, 60), (3,)
"""The bounds of the `ray` extra in pyproject.toml."""
TESTED_VERSIONS = ("2.60.0",)
"""Versions of Ray with which the tests of this project have passed."""

PRIVATE_NAMES = (
    "ray._private.auto_init_hook:enable_auto_connect",
    "ray._private.node:Node.kill_all_processes",
    "ray._private.node:Node.start_api_server",
    "ray._private.parameter:RayParams",
    "ray._private.ray_constants:ENABLE_RAY_CLUSTER",
    "ray._private.ray_constants:ENABLE_RAY_CLUSTERS_ENV_VAR",
    "ray._private.ray_logging:stdout_deduplicator.skip_re",
    "ray._private.services:canonicalize_bootstrap_address_or_die",
    "ray._raylet:AuthenticationTokenLoader.instance",
    "ray._raylet:AuthenticationTokenLoader.reset_cache",
    "ray._raylet:Config.initialize",
)

MAX_OPEN_FILES = 65_536
"""What `ray.init` raises its limit to."""

_SETTINGS_FRAME = b"\0\0\0\x04\0\0\0\0\0"
"""An HTTP/2 frame: three bytes of length, the type of settings, no flags, stream 0."""
_ANYTHING = re.compile(".")


def require_known_ray(version: str = ray.__version__) -> None:
    """Raises `UserError` for a version of Ray outside the bounds, or one that lacks a private name."""
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    missing = [name for name in PRIVATE_NAMES if not _is_there(name)]
    if missing or not MIN_VERSION <= numbers < VERSION_BELOW:
        least, below = (".".join(map(str, bound)) for bound in (MIN_VERSION, VERSION_BELOW))
        reason = f"lacks {missing[0].replace(':', '.')}" if missing else f"is not at least {least} and below {below}"
        raise UserError(
            f"Ray {version} {reason}, and --engine ray is known to work with Ray {', '.join(TESTED_VERSIONS)}: "
            f"pip install 'ray[default,tune]>={least},<{below}'"
        )


def _is_there(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


require_known_ray()

from ray._private import auto_init_hook, ray_constants  # noqa: E402
from ray._private.node import Node  # noqa: E402
from ray._private.parameter import RayParams  # noqa: E402
from ray._private.ray_logging import stdout_deduplicator  # noqa: E402
from ray._private.services import canonicalize_bootstrap_address_or_die  # noqa: E402
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # noqa: E402

LOOPBACK_ENVIRONMENT = {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}
"""Environment variables that make a new Ray listen on the loopback interface alone.

Ray uses the loopback address as a node's own only if it expects no other machines, by default on macOS and Windows. It
ignores a loopback address that is given in any other way.
"""


class SmallNode(Node):
    """A Ray of one machine with only the processes that a search needs.

    `ray.init` and `ray start` also start an API server (the dashboard's), an autoscaler and a reader of logs, which
    nothing here uses, and a worker for every CPU, before it is known how many are wanted. `ray.init` makes its process
    a driver besides, with workers that no other driver may use.
    """

    def __init__(self, num_cpus: int | None, folder: str) -> None:
        """Starts the processes. `folder` is for Ray's files. Raises various errors if they do not start."""
        _raise_limit_of_open_files()
        options: dict[str, Any] = {  # whose annotations are not all true
            "include_dashboard": False, "include_log_monitor": False, "no_monitor": True,
            "_system_config": {"prestart_worker_first_driver": False},
        }  # fmt: skip
        params = RayParams(num_cpus=num_cpus, temp_dir=folder, **options)
        super().__init__(params, head=True, shutdown_at_exit=False, spawn_reaper=True)

    def start_api_server(self, **_: object) -> None:
        """Starts nothing, where `Node` starts the dashboard's process."""

    def end(self) -> None:
        """Ends all processes, first by asking them to."""
        self.kill_all_processes(check_alive=False, allow_graceful=True)


def _raise_limit_of_open_files() -> None:
    """Lets the processes that are started from now on open as many files as they may, as `ray.init` does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, MAX_OPEN_FILES)), hard))


def start_no_ray_unasked() -> None:
    """Stops Ray from starting itself in this process when it is called without a connection.

    A thread of Ray Tune may still call it after the search has left. Ray reads its variable for this at import only.
    """
    auto_init_hook.enable_auto_connect = False


@contextmanager
def loopback_only() -> Iterator[None]:
    """Makes this process listen on the loopback interface alone, which it must to join a Ray that does."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def find_cluster(address: str) -> str:
    """Resolves `auto` or HOST:PORT to HOST:PORT. Raises `ConnectionError`, `ValueError` or `OSError` if it cannot."""
    resolved: str = canonicalize_bootstrap_address_or_die(address)
    return resolved


def reload_authentication() -> None:
    """Makes Ray read the environment variables about tokens again. It has read them once, when it was imported."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def hide_worker_deaths(is_hidden: bool) -> None:
    """Stops Ray from printing that workers died, which the engine reports itself, or lets it print again."""
    stdout_deduplicator.skip_re = _ANYTHING if is_hidden else None  # type: ignore[assignment]


def speaks_http2(connection: socket.socket, timeout: float) -> bool:
    """Returns whether a server answers the HTTP/2 preface with its settings, as a gRPC server must (RFC 9113, 3.4).

    This check comes before Ray's own clients, which wait a minute for a server that does not answer, and then end the
    process. With `RAY_USE_TLS=1` it returns True, since the server then expects TLS first; joining shows what it is.
    Raises `OSError` after `timeout` seconds.
    """
    if os.environ.get("RAY_USE_TLS") == "1":
        return True
    connection.settimeout(timeout)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS_FRAME)
    answer = b""
    while len(answer) < len(_SETTINGS_FRAME) and (more := connection.recv(len(_SETTINGS_FRAME) - len(answer))):
        answer += more
    return answer[3:4] == _SETTINGS_FRAME[3:4]


@contextmanager
def stderr_hidden() -> Iterator[None]:
    """Hides Ray's messages about tries to connect. Its C++ code writes to file descriptor 2, not to `sys.stderr`."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """Restores the signal handlers that `ray.init` replaces."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
