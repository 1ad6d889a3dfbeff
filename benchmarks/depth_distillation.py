"""Does the deepest pass of a training step teach the shallower ones? Six short trainings, in pairs of equal seeds.

Run `python -m benchmarks.depth_distillation --data DIR` from the repository's root, with CIFAR-10 as class folders in
`train` and `val`. It is the study `benchmarks/depth_distillation.yaml`; an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.recorded import BENCHMARKS, RESULTS
from cli import main as command
from sret_nas.files import write_atomically
from trials.report.study import StudyOutcome
from trials.report.study_files import to_json
from trials.runs.study_records import read_study_history

STUDY = BENCHMARKS / "depth_distillation.yaml"
RESULT = RESULTS / "depth_distillation.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 as a folder of class folders in train and val")
    parser.add_argument("--work", type=Path, default=Path("runs/depth-distillation"), help="run directory of the study")
    given = parser.parse_args()
    how = ["--resume", str(given.work)] if given.work.exists() else [str(STUDY), "--out", str(given.work)]
    if command(["study", "run", *how, "--data", given.data, "--workers", "1"]) != 0:
        raise SystemExit(1)
    found = json.loads(to_json(StudyOutcome.of(read_study_history(given.work))))
    write_atomically(RESULT, json.dumps({**found, "variants": [_variant(one) for one in found["variants"]]}) + "\n")


def _variant(variant: dict[str, Any]) -> dict[str, Any]:
    """Returns a variant without the curves of its trainings."""
    trainings = [{name: value for name, value in one.items() if name != "epochs"} for one in variant["trainings"]]
    return {**variant, "trainings": trainings}


if __name__ == "__main__":
    main()
