"""`supernet train`, `evaluate` and `extract` as the command line calls them."""

from __future__ import annotations

import itertools
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli import main
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.result_file import write_result
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.trials.supernet.tiny_supernet import SPACE, proxy
from trials.data import PreparedData, batches
from trials.runs.directory import TRAINING
from trials.supernet import training
from trials.supernet.inherit import extract_for_eval
from trials.supernet.networks import extreme
from trials.training.recipe import proxy_arch
from trials.training.train import score
from trials.workflows.train_supernet import RecordedSupernetTraining


@pytest.fixture(scope="module", autouse=True)
def handlers() -> Iterator[None]:
    """Yields the command line's handlers of Ctrl-C are its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs the command: narrowed proxies, few steps."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "space.yaml").write_text(dump_yaml({**SPACE.to_dict(), "image_size": 32, "classes": 100}))
    arguments = [
        "supernet", "train", "--space", str(folder / "space.yaml"), "--image-size", "16", "--width-scale", "0.5",
        "--max-train-images", "80", "--max-val-images", "60", "--max-test-images", "20", "--images", "96",
        "--batch-size", "32",
        "--step-rule", "alternate", "--subnet-sampling", "uniform", "--depth-schedule", "random", "--seed", "3",
        "--threads", "1", "--device", "cpu", "--params-budget", "15K", "--out", str(folder / "run"),
    ]  # fmt: skip
    assert main(arguments) == 0
    return folder / "run"


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.mark.slow
def test_train_does_what_its_options_say(run_dir: Path) -> None:
    _, record = Supernet.load(run_dir / training.SUPERNET)
    asked = record["config"]
    assert (asked["step_rule"], asked["subnet_sampling"], asked["depth_schedule"]) == ("alternate", "uniform", "random")
    assert (record["steps"], record["images"], record["seed"]) == (3, 96, 3)
    assert record["budget"] == {"flops_max": None, "params_max": 15_000, "flops_min": None, "params_min": None}
    assert record["proxy"]["width_scale"] == 0.5
    assert record["data"]["max_train"] == 80
    recorded = read_yaml(run_dir / TRAINING)
    assert recorded["config"] == asked
    assert recorded["options"]["threads"] == 1


@pytest.mark.slow
def test_a_run_directory_is_used_once_and_carried_on_as_it_was(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["supernet", "train", "--out", str(run_dir), "--images", "64"]) == 2
    assert f"carry it on with --resume {run_dir}" in shown(capsys)
    assert main(["supernet", "train", "--resume", str(run_dir), "--step-rule", "single"]) == 2
    assert "a resumed training keeps its options, --step-rule among them" in shown(capsys)
    before, supernet = Supernet.load(run_dir / training.SUPERNET)[0], run_dir / training.SUPERNET
    supernet.rename(tmp_path / "kept")
    (run_dir / "checkpoint.pt").unlink()  # all over again, from what was recorded
    assert main(["supernet", "train", "--resume", str(run_dir), "--threads", "1"]) == 0
    after = Supernet.load(supernet)[0]
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())


@pytest.mark.slow
def test_a_resumed_training_finds_its_images_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, shade in (("images", 0), ("others", 100)):
        for number in range(20):
            path = tmp_path / folder / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16), shade + number).save(path)
    run = tmp_path / "run"
    arguments = ["--space", "smoke", "--image-size", "16", "--images", "8", "--batch-size", "4", "--threads", "1"]
    assert main(["supernet", "train", "--data", str(tmp_path / "images"), *arguments, "--out", str(run)]) == 0
    before = Supernet.load(run / training.SUPERNET)[0].state_dict()
    (run / training.SUPERNET).unlink()
    (run / "checkpoint.pt").unlink()
    (tmp_path / "images").rename(tmp_path / "moved")
    assert main(["supernet", "train", "--resume", str(run)]) == 2
    assert "a resumed training needs its images: where they were" in shown(capsys)
    assert main(["supernet", "train", "--resume", str(run), "--data", str(tmp_path / "others")]) == 2
    assert "others are not those that" in shown(capsys)
    assert main(["supernet", "train", "--resume", str(run), "--data", str(tmp_path / "moved"), "--threads", "1"]) == 0
    supernet, record = Supernet.load(run / training.SUPERNET)
    assert record["steps"] == 2
    assert all(torch.equal(weight, before[name]) for name, weight in supernet.state_dict().items())


SEARCHES_OPTIONS = {
    "latency_budget": None, "latency_batch": 1, "from_scratch": False, "supernet": None, "score_images": None,
    "fine_tune_images": 0, "finalists": 4, "rivals": 2, "strategy": "additive", "objectives": ["error", "flops"],
    "rungs": 1, "eta": 3, "trials": 200, "population": 20, "engine": "local", "ray_address": None,
    "gpus_per_trial": 0.0, "workers": 2, "lookahead": 4, "trial_timeout": None, "time_budget": None, "gpu_hours": None,
    "storage": None, "train_images": None, "epochs": None,
}  # fmt: skip
"""What trainings recorded with their own options when both commands had one class of them."""


def test_what_earlier_versions_recorded_of_a_training_is_read(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = read_yaml(run_dir / TRAINING)
    assert not now["options"].keys() & SEARCHES_OPTIONS.keys()
    then = {**now, "options": {**SEARCHES_OPTIONS, **now["options"]}}
    assert RecordedSupernetTraining.model_validate(then) == RecordedSupernetTraining.model_validate(now)
    old_names = {"step_rule": "rule", "subnet_sampling": "draws", "gradient_accumulation": "accumulate"}
    config = {old_names.get(name, name): value for name, value in now["config"].items()}
    options = {name.removesuffix("_images") if name.startswith("max_") else name: value
               for name, value in now["options"].items()}  # fmt: skip
    assert config.keys() >= {"rule", "draws", "accumulate"}
    assert options["max_train"] == 80
    assert RecordedSupernetTraining.model_validate({**now, "config": config, "options": options}) == (
        RecordedSupernetTraining.model_validate(now)
    )
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / TRAINING).write_text(dump_yaml({**then, "options": {**then["options"], "max_trian": 5}}))
    assert main(["supernet", "train", "--resume", str(wrong)]) == 2
    assert "options.max_trian: unknown key" in shown(capsys)


@pytest.mark.slow
def test_evaluate_scores_as_extraction_by_hand(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    supernet, record = Supernet.load(run_dir / training.SUPERNET)
    data = PreparedData.open(Path(record["prepared"]))
    assert main(["supernet", "evaluate", str(run_dir / training.SUPERNET), "largest", "random:3"]) == 0
    lines = [line for line in shown(capsys).splitlines() if "%" in line]
    assert len(lines) == 4
    space = SPACE.model_copy(update={"image_size": 32, "classes": 100})
    target = extreme(space, Budget(params_max=15_000), "most_expensive")
    narrowed = proxy_arch(target, proxy(width_scale=0.5), channels=1, classes=10)
    found = score(extract_for_eval(supernet, narrowed, data, 32), data.val, 32)
    assert re.findall(r"[\w.%]+", lines[0])[-2:] == [f"{found.error:.2%}", f"{found.cross_entropy:.4f}"]
    assert "(32 px)" in lines[0]  # FLOPs of the target
    assert all(cost_of(arch).params <= 15_000 for arch in [target])


@pytest.mark.slow
def test_an_extracted_network_is_a_plain_one_that_does_as_in_the_supernet(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = SPACE.model_copy(update={"image_size": 32, "classes": 100})
    target = extreme(space, Budget(), "cheapest")
    write_result(tmp_path / "target.yaml", target, metrics={}, recipe={}, provenance={})
    file, out = run_dir / training.SUPERNET, tmp_path / "out" / "small.yaml"
    assert main(["supernet", "extract", str(file), str(tmp_path / "target.yaml"), "--out", str(out)]) == 0
    network = SReT.from_yaml(out, weights=out.with_suffix(".safetensors")).eval()
    supernet, record = Supernet.load(file)
    data = PreparedData.open(Path(record["prepared"]))
    narrowed = proxy_arch(target, proxy(width_scale=0.5), channels=1, classes=10)
    expected = extract_for_eval(supernet, narrowed, data, 32)
    images, _ = next(batches(data.val, batch_size=16))
    assert torch.equal(network(images), expected(images))
    written = read_yaml(out)
    assert written["arch_id"] == narrowed.arch_id
    assert written["metrics"]["val"]["error"] == score(network, data.val, 32).error
    assert written["provenance"]["target"]["arch_id"] == target.arch_id
    assert ArchConfig.from_yaml(out).canonical() == narrowed.canonical()

    capsys.readouterr()
    assert main(["supernet", "evaluate", str(file), str(tmp_path / "target.yaml"), str(out)]) == 0
    rows = [re.findall(r"[\w.%]+", line)[-2:] for line in shown(capsys).splitlines() if "%" in line]
    assert rows[0] == rows[1]  # the stand-in is not narrowed again
    assert main(["supernet", "extract", str(file), "smallest", "--out", str(tmp_path / "word.yaml")]) == 0
    smallest = extreme(space, Budget(params_max=15_000), "cheapest")
    assert read_yaml(tmp_path / "word.yaml")["provenance"]["target"]["arch_id"] == smallest.arch_id


def test_extract_writes_over_nothing_unless_told_and_never_over_what_it_reads(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.safetensors"
    shutil.copyfile(run_dir / training.SUPERNET, file)
    before = file.read_bytes()
    network, out = tmp_path / "net.yaml", tmp_path / "new.yaml"
    write_result(network, extreme(SPACE, Budget(), "cheapest"), metrics={}, recipe={}, provenance={})
    described = network.read_bytes()

    def extract(name: str | Path, to: Path, *flags: str) -> tuple[int, str]:
        capsys.readouterr()
        return main(["supernet", "extract", str(file), str(name), "--out", str(to), *flags]), shown(capsys)

    for flags in ([], ["--force"]):
        for name, to in (
            ("smallest", tmp_path / "mine.yaml"),
            (network, network),
            (network, tmp_path / "." / "net.yaml"),
        ):
            code, said = extract(name, to, *flags)
            assert code == 2
            assert "is read by this command, which never writes over it: name another --out" in said
    assert file.read_bytes() == before
    assert network.read_bytes() == described
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.safetensors", "net.yaml"]
    out.with_suffix(".safetensors").write_text("somebody's weights")
    code, said = extract("smallest", out)
    assert (code, out.exists()) == (2, False)
    assert "new.safetensors exists already: name another --out, or write over it with --force" in said
    assert extract("smallest", out, "--force")[0] == 0
    assert SReT.from_yaml(out, weights=out.with_suffix(".safetensors"))


def test_extract_looks_again_before_it_writes(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may have made the file while the network was scored."""
    out = tmp_path / "net.yaml"

    def scored(*arguments: object) -> object:
        out.write_text("mine")
        return score(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("trials.workflows.subnets.score", scored)
    assert main(["supernet", "extract", str(run_dir / training.SUPERNET), "smallest", "--out", str(out)]) == 2
    assert out.read_text() == "mine"
    assert not out.with_suffix(".safetensors").exists()


def test_train_fills_empty_folders_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoint.pt").write_text("mine")
    assert main(["supernet", "train", "--out", str(tmp_path)]) == 2
    assert "is not empty (it holds checkpoint.pt): name an --out that does not exist yet" in shown(capsys)
    assert (tmp_path / "checkpoint.pt").read_text() == "mine"


@pytest.mark.slow
def test_a_training_whose_directory_is_deleted_says_so_and_goes_on_from_what_was_kept(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    for name in (training.SUPERNET, "checkpoint.pt"):
        (tmp_path / "run" / name).unlink()
    train_step, steps = training.SupernetTraining.train_step, itertools.count(1)

    def step(self: training.SupernetTraining, *batch: torch.Tensor) -> float | None:
        if next(steps) == 2:
            shutil.rmtree(tmp_path / "run")
        return train_step(self, *batch)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training.SupernetTraining, "train_step", step)
    assert main(["supernet", "train", "--resume", str(tmp_path / "run"), "--threads", "1"]) == 1
    rescued = tmp_path / "run-rescued"
    assert shown(capsys).endswith(f"carry on with: sret-nas supernet train --resume {rescued}\n")
    assert main(["supernet", "train", "--resume", str(rescued), "--threads", "1"]) == 0
    ours, whole = (Supernet.load(folder / training.SUPERNET)[0].state_dict() for folder in (rescued, run_dir))
    assert all(torch.equal(value, whole[name]) for name, value in ours.items())


@pytest.mark.slow
def test_evaluate_mends_images_that_were_overwritten(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ["supernet", "evaluate", str(run_dir / training.SUPERNET), "largest"]
    capsys.readouterr()
    assert main(evaluate) == 0
    before = [line for line in shown(capsys).splitlines() if "│" in line and "%" in line]
    prepared = Path(Supernet.load(run_dir / training.SUPERNET)[1]["prepared"])
    np.lib.format.open_memmap(prepared / "val_images.npy", mode="r+")[:] = 7
    assert main(evaluate) == 0
    said = shown(capsys).splitlines()
    assert [line for line in said if "│" in line and "%" in line] == before
    assert sum("preparing the images anew" in line for line in said) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["random:0"], "random:N must have a whole number from 1 to 100000 for N, got 'random:0'"),
        (["sret_t"], "the supernet does not hold the network"),
        (["middle"], "'middle' is no network: name a YAML file, largest, smallest, or one of sret_t, sret_t_unsliced,"),
        (["largest", "--data", "digits2"], "digits2: there is no such folder"),
    ],
)
def test_what_cannot_be_evaluated(
    run_dir: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["supernet", "evaluate", str(run_dir / training.SUPERNET), *arguments]) == 2
    assert message in shown(capsys)


def test_other_images_are_refused(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for label in range(10):
        (tmp_path / "images" / str(label)).mkdir(parents=True)
        for number in range(8):
            Image.new("L", (16, 16), 20 * label + number).save(tmp_path / "images" / str(label) / f"{number}.png")
    arguments = [
        "supernet",
        "evaluate",
        str(run_dir / training.SUPERNET),
        "largest",
        "--data",
        str(tmp_path / "images"),
    ]
    assert main(arguments) == 2
    assert "are not those that" in shown(capsys)
    assert main([*arguments[:-1], str(tmp_path / "gone")]) == 2
    assert "needs its images: where they were when it was begun, or as --data says)" in shown(capsys)


def test_the_folder_that_a_supernet_names_is_told_and_opened_only_if_it_holds_its_images(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = run_dir / training.SUPERNET
    supernet, record = Supernet.load(file)
    assert main(["supernet", "evaluate", str(file), "smallest"]) == 0
    assert f"Images: {record['prepared']}, the prepared images that" in shown(capsys)
    opened: list[Path] = []
    monkeypatch.setattr(PreparedData, "open", classmethod(lambda cls, path: opened.append(path)))
    (tmp_path / "private").mkdir()
    supernet.save(
        tmp_path / "f", record | {"prepared": str(tmp_path), "data": record["data"] | {"source": str(tmp_path)}}
    )
    assert main(["supernet", "evaluate", str(tmp_path / "f"), "smallest"]) == 2
    assert f"Images: {tmp_path}, the folder that {tmp_path / 'f'} names" in shown(capsys)
    assert opened == []
