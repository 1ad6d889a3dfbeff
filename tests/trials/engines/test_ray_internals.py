"""Ray's private names: used in one module only, present, and reported in one line if missing."""

from __future__ import annotations

import ast
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest
import ray

from sret_nas.errors import UserError
from tests import REPOSITORY
from trials.engines import ray_internals
from trials.engines.ray_internals import (
    MIN_VERSION,
    PRIVATE_NAMES,
    TESTED_VERSIONS,
    VERSION_BELOW,
    find_cluster,
    hide_worker_deaths,
    loopback_only,
    require_known_ray,
)

ALLOWED = {"trials/engines/ray_internals.py", "tests/trials/ray_private.py"}


def private_names_in(source: str) -> list[str]:
    """Returns the private names of Ray in a module: imports, attributes, and targets of patches."""
    if not re.search(r"\bray\b", source):  # most modules, which need not be parsed
        return []
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value.replace(":", "."))
    dotted = (name.split(".") for name in found)
    return [".".join(name) for name in dotted if name[0] == "ray" and any(re.match("_(?!_)", part) for part in name)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ray._private import services", ["ray._private.services"]),
        ("import ray._raylet", ["ray._raylet"]),
        ("import ray\nray._private.worker", ["ray._private.worker", "ray._private"]),
        ("from ray.autoscaler._private.util import x", ["ray.autoscaler._private.util.x"]),
        ("patch('ray._private.services:x')", ["ray._private.services.x"]),
        ("import ray\nray.get(_x)\nself._ray._y\nray.exceptions.RayError", []),
    ],
)
def test_private_names_are_recognised(source: str, found: list[str]) -> None:
    assert private_names_in(source) == found


def test_no_other_module_names_anything_private() -> None:
    folders = ("sret_nas", "trials", "tests", "benchmarks")
    files = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    named = {path.relative_to(REPOSITORY).as_posix(): private_names_in(path.read_text()) for path in files}
    named.pop("tests/trials/engines/test_ray_internals.py")
    assert {path for path, names in named.items() if names} == ALLOWED


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_every_private_name_is_there(name: str) -> None:
    pkgutil.resolve_name(name)


def test_the_table_has_every_private_name_that_the_module_uses() -> None:
    """Each is a name of the table, or the beginning of one with an attribute."""
    assert ray_internals.__file__ is not None
    used = private_names_in(Path(ray_internals.__file__).read_text())
    table = [name.replace(":", ".") for name in PRIVATE_NAMES]
    missing = [name for name in used if not any(entry.startswith(name) for entry in table)]
    assert missing == []


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_a_name_that_is_gone_is_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_internals, "PRIVATE_NAMES", (name + "_2", *PRIVATE_NAMES))
    with pytest.raises(UserError) as refused:
        require_known_ray("2.99.1")
    least, below = (".".join(map(str, bound)) for bound in (MIN_VERSION, VERSION_BELOW))
    assert str(refused.value) == (
        f"Ray 2.99.1 lacks {name.replace(':', '.')}_2, and --engine ray is known to work with Ray "
        f"{', '.join(TESTED_VERSIONS)}: pip install 'ray[default,tune]>={least},<{below}'"
    )


@pytest.mark.parametrize("version", ["2.59.1", "3.0.0", "3.0.0.dev0", "1.13.0"])
def test_a_version_out_of_bounds_is_refused(version: str) -> None:
    with pytest.raises(
        UserError, match=rf"^Ray {version} is not at least 2\.60 and below 3, and .* 2\.60\.0: pip install"
    ):
        require_known_ray(version)


@pytest.mark.parametrize("version", ["2.60.0", "2.60.0rc1", "2.61", "2.100.3"])
def test_a_version_inside_the_bounds_is_taken(version: str) -> None:
    require_known_ray(version)


def test_the_bounds_are_those_of_the_package() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    least, below = (".".join(map(str, bound)) for bound in (MIN_VERSION, VERSION_BELOW))
    for extra in ("ray", "test"):
        (wanted,) = [line for line in extras[extra] if line.startswith("ray[")]
        assert wanted.partition("]")[2] == f">={least},<{below}"
    assert any(line.startswith("psutil") for line in extras["ray"])


def test_this_version_is_one_that_is_said_to_work() -> None:
    assert ray.__version__ in TESTED_VERSIONS


def test_loopback_is_an_address_of_this_machine_only_inside() -> None:
    with loopback_only():
        assert find_cluster("127.0.0.1:6379") == "127.0.0.1:6379"
        assert ray.util.get_node_ip_address() == "127.0.0.1"  # type: ignore[no-untyped-call]
    assert ray_internals.ray_constants.ENABLE_RAY_CLUSTER


def test_deaths_of_workers_are_printed_again_afterwards() -> None:
    filtered = ray_internals.stdout_deduplicator
    hide_worker_deaths(True)
    assert filtered.skip_re is not None
    assert filtered.skip_re.search("a worker died")
    hide_worker_deaths(False)
    assert filtered.skip_re is None
