"""The loss landscapes in the documentation.

Run it from the repository's root, with CIFAR-10 as class folders in `train` and `val`:

    python -m benchmarks.landscapes pair --data DIR
    python -m benchmarks.landscapes deep --data DIR --study RUN

`pair` is a network that recurs, and one of equal depth whose blocks are distinct. It trains both for some minutes: one
seed and a short training, so its pictures show what the command draws and are no evidence about recursion. `deep` takes
the networks of seed 0 of a run of the study `deep`: 108 block applications, plain, recursive and with mixed depth.

Values and pictures go to `benchmarks/results/landscape_NAME*`. What lies in `--work` already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from benchmarks.machine import describe_machine
from cli import main as command
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.result_file import write_result
from sret_nas.files import write_atomically
from trials.runs.study_records import read_study_history

RESULTS = Path(__file__).parent / "results"
STEM = {"width": 12, "strides": [1, 2, 2]}
STAGES = {
    "plain": [
        {"width": 24, "heads": 1, "blocks": 2, "recursions": 1, "groups": [4], "mlp_ratio": 2.0},
        {"width": 48, "heads": 2, "blocks": 2, "recursions": 1, "groups": [2], "mlp_ratio": 2.0},
    ],
    "recursive": [
        {"width": 24, "heads": 1, "blocks": 1, "recursions": 2, "groups": [4, 2], "mlp_ratio": 2.0},
        {"width": 48, "heads": 2, "blocks": 1, "recursions": 2, "groups": [2, 1], "mlp_ratio": 2.0},
    ],
}
TRAINING = {
    "max-train-images": 6000, "max-val-images": 1000, "max-test-images": 1000,
    "epochs": 4, "batch-size": 64, "warmup-epochs": 0.5, "threads": 1, "data-workers": 0, "seed": 0,
}  # fmt: skip
LANDSCAPES = {
    "pair": {"max-train-images": 6000, "images": 256, "points": 17, "pairs": 3, "workers": 1},
    "deep": {"max-train-images": 34048, "images": 256, "points": 17, "pairs": 3, "workers": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=LANDSCAPES)
    parser.add_argument(
        "--data", type=Path, required=True, help="CIFAR-10 as a folder of class folders in train and val"
    )
    parser.add_argument("--study", type=Path, metavar="RUN", help="run of the study deep")
    parser.add_argument("--work", type=Path, default=Path("runs/landscapes"), help="for trainings and points")
    given = parser.parse_args()
    if (given.name == "deep") != (given.study is not None):
        parser.error("--study goes with deep, and deep needs it")
    data, work = given.data.absolute(), given.work.absolute() / given.name
    study = given.study.absolute() if given.study else None
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)
    draw(given.name, train_pair(data) if study is None else link_trained(study), data)


def train_pair(data: Path) -> dict[str, float]:
    """Trains the networks of `STAGES` into folders of their names. Returns their errors on the test part."""
    for name, stages in STAGES.items():
        if not Path(name, "result.yaml").exists():
            arch = ArchConfig.from_dict({"stages": stages, "stem": STEM, "image_size": 32, "classes": 10}, name)
            write_result(Path(f"{name}.yaml"), arch, metrics={}, recipe={}, provenance={})
            run(["train", f"{name}.yaml", "--data", str(data), *as_typed(TRAINING), "--out", name])
    return {name: json.loads(Path(name, "best", "metrics.json").read_text())["test"]["error"] for name in STAGES}


def link_trained(run_dir: Path) -> dict[str, float]:
    """Links folders named after a study's variants to their weights of the first seed. Returns their test errors."""
    history = read_study_history(run_dir)
    seed = min(history.seeds)
    errors = {}
    for variant in history.loaded.study.variants:
        if not Path(variant.name).is_symlink():
            Path(variant.name).symlink_to(run_dir / "trainings" / f"{variant.name}-seed{seed}" / "last")
        errors[variant.name] = history.finished[variant.name, seed].result.error
    return errors


def draw(landscape: str, test_errors: dict[str, float], data: Path) -> None:
    """Draws the landscapes of the networks in folders of these names, and writes values and pictures to the results."""
    out = Path("landscape")
    if out.exists():
        run(["landscape", "--resume", str(out)])
    else:
        run(["landscape", *test_errors, "--data", str(data), *as_typed(LANDSCAPES[landscape]), "--out", str(out)])
    values = json.loads((out / "landscape.json").read_text())
    for key in ("source", "summary"):  # they name folders of this machine
        values["data"][key] = values["data"][key].replace(str(data), "cifar10")
    values["options"]["data"] = "cifar10"
    for network in values["networks"]:
        network["source"] = network["name"]
        network["test_error"] = test_errors[network["name"]]
    values |= {"machine": describe_machine("torch", "timm")}
    if landscape == "pair":
        values["training"] = TRAINING
    write_atomically(RESULTS / f"landscape_{landscape}.json", json.dumps(values) + "\n")
    for picture in ("contours", "surfaces", "profiles"):
        shutil.copyfile(out / f"{picture}.png", RESULTS / f"landscape_{landscape}_{picture}.png")


def as_typed(options: Mapping[str, float]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def run(arguments: list[str]) -> None:
    if command(arguments) != 0:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
