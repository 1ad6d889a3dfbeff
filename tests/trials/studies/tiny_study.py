"""A study for tests, whose trainings take tenths of a second on the handwritten digits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from sret_nas.yaml_files import dump_yaml
from trials.report.study import StudyOutcome
from trials.runs.study_options import StudyOptions
from trials.studies.run import start_study

DEFINITION: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny loops",
    "question": "Does it run?",
    "base": {
        "image_size": 16,
        "stem": {"width": 4, "strides": [2, 2, 1]},
        "stages": [{"width": 8, "heads": 2, "blocks": 2, "recursions": 2, "groups": [2, 1], "mlp_ratio": 1.0}],
    },
    "recipe_changes": {"epochs": 2, "warmup_epochs": 0.5, "batch_size": 16, "precision": "fp32"},
    "data": {"max_train_images": 48, "max_val_images": 20, "max_test_images": 40},
    "seeds": 2,
    "measure": ["depths", "curves", "coefficients"],
    "variants": [{"name": "internal"}, {"name": "external", "changes": {"stages": {"loop": "external"}}}],
    "claims": [
        {"text": "Internal is better.", "source": "nobody", "better": "internal", "than": "external"},
        {"text": "Alike.", "source": "nobody", "equal": ["internal", "external"], "within": 50.0, "at_depth": 1},
    ],
}


def write_study(folder: Path, **changes: Any) -> Path:
    """Writes the study, with some keys replaced, or left out where they are None."""
    content = {key: value for key, value in {**DEFINITION, **changes}.items() if value is not None}
    path = folder / "tiny.yaml"
    path.write_text(dump_yaml(content))
    return path


def run_study(file: Path, run_dir: Path, **given: Any) -> tuple[StudyOutcome, str]:
    """Runs a study in this process, and returns what came out and what was printed."""
    printed = io.StringIO()
    options = StudyOptions.parse({"study": str(file), "workers": 0, "device": "cpu", **given}, "study run")
    outcome = start_study(options, run_dir, ["study"], Console(file=printed, width=120))
    return outcome, printed.getvalue()


def errors_of(outcome: StudyOutcome) -> dict[str, dict[int, float]]:
    """Returns the cross-entropies by variant and seed, which tell more than errors do."""
    return {
        variant.training.name: {seed: result.cross_entropy for seed, result in variant.results.items()}
        for variant in outcome.variants
    }
