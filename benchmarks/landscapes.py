"""The loss landscapes in the documentation: a network that recurs, and one of equal depth whose blocks are distinct.

Run `python -m benchmarks.landscapes --data DIR` from the repository's root, with CIFAR-10 as class folders in `train`
and `val`. It trains both networks for some minutes, draws their landscapes, and writes values and pictures to
`benchmarks/results/landscape*`. What lies in `--work` already is not done again. One seed and a short training: the
pictures show what the command draws, and are no evidence about recursion.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

from benchmarks.machine import describe_machine
from cli import main as command
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.result_file import write_result
from sret_nas.files import write_atomically

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
LANDSCAPE = {"max-train-images": 6000, "images": 256, "points": 17, "pairs": 3, "workers": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="CIFAR-10 as a folder of class folders in train and val"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/landscapes"), help="for trainings and points")
    given = parser.parse_args()
    given.data = given.data.absolute()
    given.work.mkdir(parents=True, exist_ok=True)
    os.chdir(given.work)
    data = ["--data", str(given.data)]
    for name, stages in STAGES.items():
        if not Path(name, "result.yaml").exists():
            arch = ArchConfig.from_dict({"stages": stages, "stem": STEM, "image_size": 32, "classes": 10}, name)
            write_result(Path(f"{name}.yaml"), arch, metrics={}, recipe={}, provenance={})
            run(["train", f"{name}.yaml", *data, *as_typed(TRAINING), "--out", name])
    out = Path("landscape")
    if out.exists():
        run(["landscape", "--resume", str(out)])
    else:
        run(["landscape", *STAGES, *data, *as_typed(LANDSCAPE), "--out", str(out)])
    values = json.loads((out / "landscape.json").read_text())
    for key in ("source", "summary"):  # they name folders of this machine
        values["data"][key] = values["data"][key].replace(str(given.data), "cifar10")
    values["options"]["data"] = "cifar10"
    for network in values["networks"]:
        network["test_error"] = json.loads(Path(network["name"], "best", "metrics.json").read_text())["test"]["error"]
    values |= {"machine": describe_machine("torch", "timm"), "training": TRAINING}
    write_atomically(RESULTS / "landscape.json", json.dumps(values) + "\n")
    for picture in ("contours", "surfaces", "profiles"):
        shutil.copyfile(out / f"{picture}.png", RESULTS / f"landscape_{picture}.png")


def as_typed(options: dict[str, float]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def run(arguments: list[str]) -> None:
    if command(arguments) != 0:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
