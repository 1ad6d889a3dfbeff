"""What `pip install` puts on a machine: it works far from the checkout, beside files that have our folders' names."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from sret_nas import __version__
from tests import REPOSITORY

pytestmark = pytest.mark.slow

SEARCH = (
    "search", "--no-supernet", "--space", "smoke", "--flops-budget", "57M", "--trials", "1",
    "--target-classes", "1000", "--target-channels", "3",
    "--max-train-images", "64", "--max-val-images", "50", "--max-test-images", "50", "--train-images", "64",
    "--image-size", "32", "--threads", "1", "--out", "run",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-build-isolation"] if find_spec("hatchling") else []
    pip("wheel", "--no-deps", *isolation, "--wheel-dir", folder, REPOSITORY)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the `bin` of a virtual environment that has the wheel, and for all else the packages of this interpreter.

    Those come by a path file, since `--system-site-packages` would give those of the system, not of a virtual
    environment. Path files inside such folders have no effect, so that an editable installation is out of sight.
    """
    environment = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    pip("--python", python, "install", "--no-deps", wheel)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    packages = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (site_packages / "others.pth").write_text("".join(f"{path}\n" for path in packages))
    return environment / "bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns a folder of a user whose own modules have names that this checkout has, and must not be mistaken for
    ours."""
    for name in ("trials", "cli", "tests", "docs"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('this module is the user\\'s own')\n")
    return tmp_path


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run(*command: str | Path, folder: Path) -> str:
    """Returns the output of a command that is run in a folder, whose modules are found first."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_one_name_at_the_top(wheel: Path) -> None:
    files = zipfile.ZipFile(wheel).namelist()
    assert {file.partition("/")[0] for file in files} == {"sret_nas", f"sret_nas-{__version__}.dist-info"}
    assert len(files) == len(set(files))
    committed = subprocess.run(
        ["git", "ls-files", "sret_nas", "trials", "recipes", "search_spaces", "studies"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    inside = {file if file.startswith("sret_nas/") else f"sret_nas/{file}" for file in committed} - {"sret_nas/trials"}
    assert inside <= set(files)
    data = {"sret_nas/recipes/imagenet.yaml", "sret_nas/search_spaces/sret_tiny.yaml"}
    assert {"sret_nas/py.typed", "sret_nas/trials/py.typed", *data} <= inside


def test_the_program_and_the_module_are_the_same(programs: Path, folder: Path) -> None:
    assert run(programs / "sret-nas", "--version", folder=folder) == f"sret-nas {__version__}\n"
    assert run(programs / "python", "-m", "sret_nas", "--version", folder=folder) == f"sret-nas {__version__}\n"
    named = [run(*start, "--help", folder=folder) for start in both(programs)]
    assert [text.partition(" [")[0] for text in named] == ["usage: sret-nas", "usage: python -m sret_nas"]
    assert named[0].split("commands:")[1] == named[1].split("commands:")[1]


def both(programs: Path) -> list[list[str | Path]]:
    return [[programs / "sret-nas"], [programs / "python", "-m", "sret_nas"]]


def test_the_code_is_the_installed_one(programs: Path, folder: Path) -> None:
    script = "import sret_nas.trials.seeds as seeds; print(seeds.__file__)"
    found = Path(run(programs / "python", "-c", script, folder=folder).strip())
    assert found.is_relative_to(programs.parent)


def test_spaces_are_inside(programs: Path, folder: Path) -> None:
    assert "networks" in run(programs / "sret-nas", "space", "smoke", folder=folder)


def test_the_module_searches(programs: Path, folder: Path) -> None:
    """With a worker process, which finds the code by itself."""
    run(programs / "python", "-m", "sret_nas", *SEARCH, "--workers", "1", folder=folder)
    assert (folder / "run" / "best.yaml").is_file()


def test_the_program_searches_with_ray(programs: Path, folder: Path) -> None:
    """Ray is started by a process of its own, and its workers unpack what the search has packed."""
    run(programs / "sret-nas", *SEARCH, "--workers", "1", "--engine", "ray", folder=folder)
    assert (folder / "run" / "best.yaml").is_file()


def test_a_script_uses_what_is_documented(programs: Path, folder: Path) -> None:
    (folder / "script.py").write_text(
        "from sret_nas import Budget\n"
        "from sret_nas.trials.integrations.optuna_sampler import StrategySampler\n"
        "StrategySampler('random', 'smoke', Budget(flops_max=10**8), objectives=('error', 'flops'))\n"
        "print('done')\n"
    )
    assert run(programs / "python", "script.py", folder=folder) == "done\n"


def test_a_checkout_has_the_documented_names_too(folder: Path) -> None:
    """With the checkout on the path after the user's own folder, without any installation."""
    script = "import sret_nas.trials.integrations.optuna_sampler as found; print(found.__file__)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(REPOSITORY)
