"""The result files of a study: JSON, CSV, a page and a picture, from its records alone."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sret_nas.files import write_atomically
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity, format_seconds

from ..console import Console
from ..data import DIGITS
from ..runs.option_groups import flag
from ..runs.study_options import StudyOptions
from .drawing import warn_if_undrawn
from .paired import PairedDifference
from .study import (
    AGREEMENT,
    NOISE,
    StudyOutcome,
    VariantOutcome,
    describe_difference,
    describe_method,
    short_interval,
    verdict_of,
)
from .study_picture import study_picture

JSON, CSV, MARKDOWN, PICTURE = "results.json", "results.csv", "results.md", "results.png"

COLUMNS = (
    "variant", "seed", "error", "cross_entropy", "test_images", "flops", "params", "train_images", "steps", "skipped",
    "train_seconds", "precision", "arch_id",
)  # fmt: skip

AGAIN = ("seed", "epochs", "max_train_images", "max_val_images", "max_test_images", "split_seed")
"""Options that decide what a study finds, besides its images and the number of seeds."""


def write_study_results(run_dir: Path, outcome: StudyOutcome, console: Console) -> None:
    """Writes all files; without any result, none. If the picture cannot be drawn, it says so."""
    if outcome.any_result is None:
        return
    write_atomically(run_dir / CSV, _csv(outcome))
    write_atomically(run_dir / MARKDOWN, to_markdown(outcome, PICTURE))
    write_atomically(run_dir / JSON, to_json(outcome))
    with warn_if_undrawn(console, str(run_dir / PICTURE), "the results are whole"):
        write_atomically(run_dir / PICTURE, study_picture(outcome))


def to_json(outcome: StudyOutcome) -> str:
    """Returns everything as JSON: the study, its options, every training, and the claims. Errors are fractions."""
    header, result = outcome.history.header, outcome.any_result
    data = {
        "study": outcome.study.name,
        "date": time.strftime("%Y-%m-%d", time.gmtime(header.time)),
        "seeds": list(outcome.history.seeds),
        "finished": outcome.num_finished,
        "planned": outcome.num_planned,
        "seconds": round(outcome.history.seconds, 1),
        "data": header.data.model_dump(mode="json"),
        "machine": {"processor": header.processor, "device": header.device, "threads": outcome.history.options.threads},
        "precision": None if result is None else result.precision,
        "versions": header.versions,
        "definition": header.study,
        "variants": [_variant_data(variant) for variant in outcome.variants],
        "teacher": None if outcome.teacher is None else outcome.teacher.model_dump(mode="json"),
        "claims": [
            {
                **judged.claim.model_dump(mode="json"),
                "compared": judged.compared,
                "difference_in_points": _difference(judged.difference),
                "verdict": judged.verdict,
            }
            for judged in outcome.claims
        ],
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _variant_data(variant: VariantOutcome) -> dict[str, Any]:
    return {
        "name": variant.training.name,
        "arch_id": variant.training.arch.arch_id,
        "flops": variant.flops,
        "params": variant.params,
        "depth_schedule": variant.training.schedule,
        "labels": variant.training.labels,
        "difference_in_points": _difference(variant.difference),
        "trainings": [
            {"seed": seed, **result.model_dump(mode="json", exclude={"arch_id", "flops", "params"})}
            for seed, result in variant.results.items()
        ],
    }


def _difference(difference: PairedDifference | None) -> dict[str, Any] | None:
    """Returns a difference as plain data; the bounds of a single seed's interval, which are infinite, are None."""
    if difference is None:
        return None
    numbers = asdict(difference.interval)
    interval = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {**interval, "p_value": difference.p_value, "seeds_above_0": difference.positive}


def _csv(outcome: StudyOutcome) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for variant in outcome.variants:
        for seed, result in variant.results.items():
            writer.writerow(
                (
                    variant.training.name, seed, f"{result.error:.6f}", f"{result.cross_entropy:.6f}",
                    result.test_images, variant.flops, variant.params, result.images, result.steps, result.skipped,
                    f"{result.train_seconds:.1f}", result.precision, variant.training.arch.arch_id,
                )
            )  # fmt: skip
    return table.getvalue()


def to_markdown(outcome: StudyOutcome, picture: str) -> str:
    """Returns the page of a study.

    Args:
        outcome: what came out.
        picture: the picture's file, as the page links to it.
    """
    study = outcome.study
    lines = [f"# {study.title}", "", study.question, ""]
    if study.setting is not None:
        lines += [study.setting, ""]
    lines += [*_claims(outcome), "## Variants", "", *_table(outcome), "", describe_method(outcome), ""]
    if outcome.num_finished < outcome.num_planned:
        done = f"{outcome.num_finished} of {counted(outcome.num_planned, 'training')}"
        lines += [f"**Not complete**: {done} have finished.", ""]
    lines += [f"![Errors of the variants]({picture})", "", *_depths(outcome), "## How it was run", "", *_how(outcome)]
    return "\n".join(lines) + "\n"


def _claims(outcome: StudyOutcome) -> list[str]:
    if not outcome.claims:
        return []
    lines = ["## Claims", "", "| claim | their figure | here, in points of test error | at this scale |"]
    lines += ["| --- | --- | --- | --- |"]
    for judged in outcome.claims:
        claim = judged.claim
        found = "not run" if judged.difference is None else describe_difference(judged.difference)
        cells = (
            f"{claim.text} ({claim.source})", claim.figure or "none given", f"{judged.compared} = {found}",
            f"**{verdict_of(judged)}**",
        )  # fmt: skip
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return [*lines, "", f"{AGREEMENT.capitalize()}. {NOISE}", ""]


def _table(outcome: StudyOutcome) -> list[str]:
    lines = ["| variant | FLOPs | params | error, % | ± | difference | 90 % interval | p | CE, nats | time |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for variant in outcome.variants:
        error, difference, entropy = variant.error, variant.difference, variant.cross_entropy
        missing = "failed" if variant.num_failed else "not run"
        p_value = None if difference is None else difference.p_value
        cells = (
            variant.training.name, format_quantity(variant.flops), format_quantity(variant.params),
            missing if error is None else f"{error.mean:.2f}",
            "-" if error is None or error.seeds == 1 else f"{error.spread:.2f}",
            "-" if difference is None else f"{difference.interval.mean:+.2f}", short_interval(difference),
            "-" if p_value is None else f"{p_value:.2g}", "-" if entropy is None else f"{entropy.mean:.3f}",
            "-" if variant.seconds is None else format_seconds(variant.seconds),
        )  # fmt: skip
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return lines


def _depths(outcome: StudyOutcome) -> list[str]:
    """Returns the table of mean errors at every depth, if they were measured."""
    rows = []
    for variant in outcome.variants:
        errors: dict[tuple[int, ...], list[float]] = {}
        for result in variant.results.values():
            for score in result.depths:
                errors.setdefault(score.recursions, []).append(100 * score.error)
        rows += [
            f"| {_cell(variant.training.name)} | {','.join(map(str, depth))} | {sum(values) / len(values):.2f} |"
            for depth, values in errors.items()
        ]
    if not rows:
        return []
    return ["## Error at every depth", "", "| variant | recursions | error, % |", "| --- | --- | ---: |", *rows, ""]


def _how(outcome: StudyOutcome) -> list[str]:
    history, result = outcome.history, outcome.any_result
    assert result is not None
    header, seeds = history.header, history.seeds
    recipe = history.loaded.recipe
    versions = ", ".join(f"{name} {version}" for name, version in header.versions.items())
    threads = history.options.threads
    return [
        f"- Data: {header.data.name}: {header.data.train_images:,} training, {header.data.val_images:,} "
        f"validation and {header.data.test_images:,} test images of {header.data.classes} classes, at "
        f"{history.loaded.base.image_size} px.",
        f"- Seeds {seeds[0]} to {seeds[-1]}: equal seeds have equal orders and augmentations of the images.",
        f"- Training: {result.images:,} images in {result.steps:,} steps of {result.images // max(1, result.steps)}, "
        f"{counted(recipe.epochs, 'epoch')}, {recipe.optimizer}, learning rate {recipe.learning_rate:g}, "
        f"{result.precision}.",
        f"- Machine: {header.processor}, {header.device}, {counted(threads, 'thread')}; "
        f"{format_seconds(history.seconds)} for all trainings.",
        f"- Date: {time.strftime('%Y-%m-%d', time.gmtime(header.time))}; {versions}.",
        f"- Again: `{command_again(history.options, len(seeds))}`",
    ]


def command_again(options: StudyOptions, num_seeds: int) -> str:
    """Returns the command that runs the same study; where its images lie is left to the reader."""
    data = "DIR" if options.data_root is None and options.data != DIGITS else shlex.quote(options.data)
    root = "" if options.data_root is None else " --data-root DIR"
    defaults = StudyOptions.model_fields
    more = "".join(
        f" {flag(name)} {value}" for name in AGAIN if (value := getattr(options, name)) != defaults[name].default
    )
    return f"sret-nas study run {shlex.quote(options.study)} --data {data}{root} --seeds {num_seeds}{more}"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
