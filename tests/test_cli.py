"""The command line: exit codes, messages, and that `--help` stays light."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli import main
from sret_nas.arch.cost import cost_of
from sret_nas.arch.presets import PRESETS
from sret_nas.space.search_space import SearchSpace
from sret_nas.yaml_files import dump_yaml
from tests import REPOSITORY

SUPERNET = [["supernet", action] for action in ("train", "evaluate", "extract")]

HEAVY = (
    "torch",
    "numpy",
    "optuna",
    "rich",
    "matplotlib",
    "sklearn",
    "pydantic",
    "yaml",
    "ray",
    "timm",
    "fvcore",
    "onnx",
)


def run_in_process(*arguments: str) -> int:
    """Returns `main`'s exit code, argparse's own exits included."""
    try:
        return main(arguments)
    except SystemExit as exit_:
        return int(exit_.code or 0)


@pytest.mark.parametrize(
    "command", [[], ["search"], ["space"], ["profile"], ["supernet"], ["export"], ["predict"], *SUPERNET]
)
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    script = (
        "import sys; from cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as exit_: code = exit_.code\n"
        f"print(code, [name for name in {HEAVY} if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", script, *command, "--help"], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout
    assert output.startswith("usage: sret-nas")
    assert output.splitlines()[-1] == "0 []"


def test_help_s_defaults_are_the_options_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    from trials.runs.options import SearchOptions

    run_in_process("search", "--help")
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for flag, field in {
        "--strategy": "strategy",
        "--seed N": "seed",
        "--image-size PX": "image_size",
        "--batch-size N": "batch_size",
        "--learning-rate X": "learning_rate",
        "--threads N": "threads",
        "--device NAME": "device",
        "--space NAME|FILE": "space",
    }.items():
        default = SearchOptions.model_fields[field].default
        assert re.search(rf"{re.escape(flag)}[^-].*?default: {default:g}\b" if isinstance(default, float) else
                         rf"{re.escape(flag)}[^-].*?default: {default}\b", text), flag  # fmt: skip
    assert "--trials N networks to try (default: 200; 16 with --no-supernet, " in text
    assert (SearchOptions().trials, SearchOptions(no_supernet=True).trials) == (200, 16)


def test_the_defaults_in_supernet_train_s_help_are_the_options_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    from trials.supernet.config import SupernetConfig

    run_in_process("supernet", "train", "--help")
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for flag, field in {
        "--step-rule NAME": "step_rule",
        "--random-networks N": "random_networks",
        "--subnet-sampling NAME": "subnet_sampling",
        "--depth-schedule NAME": "depth_schedule",
        "--gradient-accumulation N": "gradient_accumulation",
        "--precision NAME": "precision",
    }.items():
        default = SupernetConfig.model_fields[field].default
        assert re.search(rf"{re.escape(flag)} (?:(?!--).)*default: {default}\b", text), flag
    assert SupernetConfig.model_fields["distil"].default is True  # the flag is --no-distil


SMALL_RECIPE, DEPTHS_STUDY = str(REPOSITORY / "recipes" / "small.yaml"), str(REPOSITORY / "studies" / "depths.yaml")

WRONG = [
    (["search", "--flops-budget", "1X"], "must be a number such as 1G, 4.8M, 600K, 1.1e9 or 1100000000, got '1X'"),
    (["search", "--flops-budget", "1M"], "the nearest"),
    (["search", "--flops-budget", "1G", "--flops-min", "2G"], "the minimum of FLOPs must not exceed their budget"),
    (["search", "--space", "nosuch"], "the shipped ones are paper_ablations, smoke, sret_small, sret_tiny"),
    (["search", "--data", "no/such/dir"], "no/such/dir"),
    (["search", "--resume", "no/such/run"], "no/such/run is no run directory"),
    (["search", "--resume", "x", "--out", "y"], "leave out --out, or give --resume y"),
    (
        ["search", "--objectives", "error,speed"],
        "'error', 'cross_entropy', 'depth_error', 'flops', 'params' or 'latency'",
    ),
    (["search", "--trials", "0"], "--trials: must be greater than or equal to 1, got 0"),
    (["search", "--trials", "many"], "error: --trials: must be a whole number, got 'many'"),
    (["search", "--trials", "1e20"], "error: --trials: must be a whole number, got '1e20'"),
    (["search", "--trials", str(10**20)], "search: --trials: must be less than or equal to 10000000"),
    (["search", "--workers", "100000"], "search: --workers: must be less than or equal to 10000"),
    (["search", "--epochs", "x"], "error: --epochs: must be a number, got 'x'"),
    (
        ["search", "--objectives", "flops"],
        "must name error, cross_entropy or depth_error, got flops: without them",
    ),
    (["search", "--device", "cuda:99"], "device cuda:99 is not there: torch sees "),
    (["search", "--device", "cuda:99", "--dry-run"], "device cuda:99 is not there: torch sees "),
    (["search", "--max-train-images", "1"], "--max-train-images: must be greater than or equal to 2, got 1"),
    (["evaluate", "sret_t", "--max-val-images", "1"], "--max-val-images: must be greater than or equal to 2, got 1"),
    (["train", "sret_t", "--crop-scale", "0"], "--crop-scale: must be two numbers, such as 0.6,1, got '0'"),
    (["export", "sret_t", "--onnx", "n.onnx"], "sret_t is a preset without weights: train it, or convert a checkpoint"),
    (["evaluate", "SReT-T"], "SReT-T is a preset without weights: train it, or convert a checkpoint"),
    (["predict", "m.pt2", "image.png"], "error: m.pt2: there is no such file\n"),
    (["search", "--time-budget", "90"], "must be a time such as 90s, 5m, 1.5h or 1h30m"),
    (["supernet", "train", "--images", "1"], "supernet train: --images: must be greater than or equal to 2, got 1"),
    (["space", "nosuch"], "there is no such file and no such shipped search space"),
    (["space", "--flops-budget", "1M"], "the nearest"),
    (["profile", "sret_xxl"], "the presets are sret_t,"),
    (["profile", "missing.yaml"], "missing.yaml: there is no such file"),
    (["supernet"], "the following arguments are required: ACTION"),
    (["supernet", "train", "--flops-budget", "1M"], "the nearest"),
    (
        ["supernet", "train", "--step-rule", "both"],
        "--step-rule: must be 'sandwich', 'alternate' or 'single', got 'both'",
    ),
    (["supernet", "train", "--gradient-accumulation", "40"], "got 40 parts of a batch of 64"),
    (["supernet", "train", "--device", "gpu"], "--device must be auto, cpu, cuda or cuda:NUMBER, got 'gpu'"),
    (["supernet", "train", "--time-budget", "5"], "must be a time such as 90s, 5m, 1.5h or 1h30m"),
    (["supernet", "train", "--images", "64", "--time-budget", "5m"], "--images and --time-budget exclude each other"),
    (["supernet", "train", "--resume", "no/such/run"], "no/such/run holds no training of a supernet"),
    (["supernet", "train", "--resume", "x", "--out", "y"], "leave out --out and --time-budget"),
    (["supernet", "evaluate", "missing.safetensors", "largest"], "missing.safetensors: there is no such file"),
    (["supernet", "extract", "missing.safetensors", "sret_t", "--out", "x.txt"], "--out must name a .yaml file"),
    (["supernet", "extract", "missing.safetensors", "sret_t"], "the following arguments are required: --out"),
    (["profile", str(REPOSITORY / "search_spaces" / "smoke.yaml")], "smoke.yaml: is a search space, which `space` and"),
    (["profile", SMALL_RECIPE], "small.yaml: is a recipe, which `train --recipe` takes, not a network"),
    (["space", SMALL_RECIPE], "small.yaml: is a recipe, which `train --recipe` takes, not a search space"),
    (["study", "show", SMALL_RECIPE], "small.yaml: is a recipe, which `train --recipe` takes, not a study"),
    (
        ["search", "--config", SMALL_RECIPE],
        "small.yaml: is a recipe, which `train --recipe` takes, not options of a run",
    ),
    (["search", "--space", DEPTHS_STUDY], "depths.yaml: is a study, which `study run` takes, not a search space"),
    (["search", "--flops-budget", "-1G"], "--flops-budget: must lie between 1 and 4.6e18, got '-1G'"),
    (["search", "--learning-rate", "-1e-3x"], "--learning-rate: must be a number, got '-1e-3x'"),
    (["fly"], "invalid choice: 'fly'"),
    (["search", "--resume"], "error: --resume: needs a value after it"),
    (["search", "--balanced-error=yes"], "error: --balanced-error: takes no value, got 'yes'"),
    (["search", "--enqueue"], "error: --enqueue: needs one value or more after it"),
    (["search", "run"], " search does not know run; see "),
    (
        ["supernet", "train", "--image-sise", "3"],
        " supernet train does not know --image-sise 3; did you mean --image-size?",
    ),
    (["runs", "compare", "one"], "runs compare needs two runs or more, got one alone"),
    (["space", "--flops-budget", "10"], " times the budget of 10)"),
    (["space", "--flops-min", "900T"], "the minimum of 900T is "),
    (["search", "--engine", "dask"], "invalid choice: 'dask' (choose from 'local', 'ray', 'tune')"),
    (
        ["search", "--dry-run", "--open"],
        "--dry-run plans a new search and writes nothing, so it cannot be combined with",
    ),
    ([], "the following arguments are required: COMMAND"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_a_user_s_mistake_is_explained_and_exits_with_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_in_process(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []  # nothing half-written


@pytest.mark.parametrize(
    "command", [["search", "--data"], ["train", "sret_t", "--recipe"], ["runs", "show"], ["evaluate"], ["study", "run"]]
)
def test_a_path_that_is_too_long_is_named(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "x" * 300]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert len(error) < 500
    assert "File name too long" in error


@pytest.mark.slow
def test_a_folder_in_the_way_of_a_result_is_named_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    short = ["--no-supernet", "--trials", "2", "--epochs", "1", "--image-size", "32", "--out", str(run)]
    assert run_in_process("search", "--space", "smoke", *short) == 0
    (run / "best.yaml").unlink()
    (run / "best.yaml").mkdir()
    (run / "best.yaml" / "mine").touch()
    capsys.readouterr()
    assert run_in_process("search", "--resume", str(run)) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {run}/best.yaml: a folder is in the way of this file; move or rename it, and give the command again"
    )
    assert (run / "best.yaml" / "mine").exists()
    (run / "best.yaml").rename(tmp_path / "moved")
    assert run_in_process("search", "--resume", str(run)) == 0
    assert (run / "best.yaml").is_file()


@pytest.mark.parametrize("arguments", [["search", "--data", "loop", "--dry-run"], ["search", "--out", "loop/run"]])
def test_links_that_lead_in_a_circle_are_named(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert run_in_process(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "loop" in line
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, "arch.yaml: stages[0]: heads must divide width, got heads=5, width=64"),
        ({"width": "64"}, "arch.yaml: stages[0].width: must be a whole number, got '64'"),
        ({"lop": "internal"}, "arch.yaml: stages[0].lop: unknown key"),
        (
            {"groups": [8]},
            "arch.yaml: stages[0]: groups must give one number per recursion, got groups=[8], recursions=2",
        ),
        (
            {"nll": "sometimes"},
            "arch.yaml: stages[0].nll: must be 'every', 'between', 'last' or 'none', got 'sometimes'",
        ),
    ],
)
def test_a_wrong_architecture_file_is_explained(
    change: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = PRESETS["sret_t"].to_dict()
    data["stages"][0].update(change)
    (tmp_path / "arch.yaml").write_text(dump_yaml(data))
    assert run_in_process("profile", str(tmp_path / "arch.yaml")) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_profile_shows_the_cost_and_that_fvcore_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process("profile", "SReT-T", "--no-speed") == 0
    lines = capsys.readouterr().out.splitlines()
    cost = cost_of(PRESETS["sret_t"])
    (total,) = (line.split() for line in lines if line.split()[:1] == ["total"])
    assert total == ["total", f"{cost.flops:,}", "100.0", "%", f"{cost.params:,}", "100.0", "%"]
    assert lines[-1] == "fvcore: equal, to the last unit, on the built network"


def test_space_shows_the_number_of_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process("space", "smoke", "--flops-budget", "100M") == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("12 distinct networks")
    assert lines[first + 1] == "4 of them (33.3 %) have FLOPs at most 100M"


def test_the_package_has_every_name_it_lists() -> None:
    import sret_nas

    assert [name for name in sret_nas.__all__ if not hasattr(sret_nas, name)] == []
    assert dir(sret_nas) == sorted(sret_nas.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        sret_nas.no_such_name  # noqa: B018


@pytest.mark.slow
def test_a_picture_is_drawn_over_nothing_unless_told_and_never_over_the_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space, picture = tmp_path / "space.png", tmp_path / "picture.png"
    space.write_text(dump_yaml(SearchSpace.load("smoke").to_dict()))
    before = space.read_bytes()
    for flags in ([], ["--force"]):
        assert main(["space", str(space), "--samples", "0", "--picture", str(space), *flags]) == 2
        assert "is read by this command, which never writes over it: name another --picture" in capsys.readouterr().err
    assert space.read_bytes() == before
    picture.write_text("mine")
    assert main(["space", str(space), "--samples", "0", "--picture", str(picture)]) == 2
    assert (
        "picture.png exists already: name another --picture, or write over it with --force" in capsys.readouterr().err
    )
    assert picture.read_text() == "mine"
    assert main(["space", str(space), "--samples", "0", "--picture", str(picture), "--force"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "error: memory ran out: no more could be had"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "error: memory ran out: DefaultCPUAllocator"),
        (ImportError("libtorch_cpu.so: failed to map segment"), "error: memory ran out: libtorch_cpu.so: failed"),
        (OSError(12, "Cannot allocate memory"), "error: memory ran out: [Errno 12]"),
        (
            ImportError("libcublas.so.12: cannot open shared object file"),
            "error: a library cannot be loaded: libcublas",
        ),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "error: torch is not installed here: pip"),
        (OSError(24, "Too many open files"), "error: [Errno 24] Too many open files"),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("trials.report.space.show_space", fail)
    assert main(["space", "smoke"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("ours"), ImportError("ours", name="sret_nas.space")])
def test_our_own_errors_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("trials.report.space.show_space", fail)
    with pytest.raises(type(error), match="ours"):
        main(["space", "smoke"])
