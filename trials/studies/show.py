"""`study list` and `study show`: what a study asks, and what a run of it found."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from sret_nas.arch.cost import cost_of
from sret_nas.errors import printable
from sret_nas.files import expand_home
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity

from ..console import Console, print_line
from ..report.study import StudyOutcome, show_outcome
from ..report.study_files import to_json
from ..runs.loaded_study import LoadedStudy, shipped_studies
from ..runs.study import Variant
from ..runs.study_records import read_study_history


def list_studies(console: Console) -> None:
    """Prints the shipped studies."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("study", no_wrap=True)
    table.add_column("question", overflow="fold")
    table.add_column("train-\nings", justify="right", no_wrap=True)
    for name, path in shipped_studies().items():
        study = LoadedStudy.load(str(path)).study
        table.add_row(name, escape(study.question), str(len(study.variants) * study.seeds))
    console.print(table)


def show_study(name_or_run: str, console: Console, *, as_json: bool) -> None:
    """Prints a study, or the results of a run. Raises `UserError` if there is neither."""
    run_dir = expand_home(name_or_run)
    if run_dir.is_dir():
        outcome = StudyOutcome.of(read_study_history(run_dir))
        if as_json:
            print(to_json(outcome), end="")
            return
        show_outcome(outcome, console)
        return
    loaded = LoadedStudy.load(name_or_run)
    if as_json:
        import json

        print(json.dumps(loaded.to_dict(), indent=2, ensure_ascii=False))
        return
    _show_definition(loaded, console)


def _show_definition(loaded: LoadedStudy, console: Console) -> None:
    study, recipe = loaded.study, loaded.recipe
    console.print(escape(printable(study.title)), style="bold", highlight=False)
    for text in (study.question, study.setting):
        if text is not None:
            console.print(printable(text), markup=False, highlight=False)
    console.print()
    print_line(console, f"Base: {loaded.base.summary()}, {loaded.base.image_size} px")
    length = f"{counted(recipe.epochs, 'epoch')}, batches of {recipe.batch_size}"
    print_line(console, f"Recipe: {study.recipe}, {length}; {counted(study.seeds, 'seed')}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("variant", overflow="fold")
    table.add_column("FLOPs", justify="right", no_wrap=True)
    table.add_column("differs in", overflow="fold")
    base = loaded.base
    for variant, training in zip(study.variants, loaded.trainings, strict=True):
        arch = training.on(classes=base.classes, channels=base.channels).arch
        flops = format_quantity(cost_of(arch).flops)
        table.add_row(escape(variant.name), flops, escape(printable(_differences(variant))))
    console.print(table)
    print_line(
        console,
        f"FLOPs are for {counted(base.classes, 'class', 'classes')} and {counted(base.channels, 'channel')}, as the "
        "base has them. A run takes both from its images, so its FLOPs differ a little.",
    )
    for number, claim in enumerate(study.claims, start=1):
        figure = "" if claim.figure is None else f"; {claim.figure}"
        console.print(f"Claim {number}: {claim.text} ({claim.source}{figure})", markup=False, highlight=False)


def _differences(variant: Variant) -> str:
    """Returns what a variant changes, in words."""
    parts = [f"{name} {_written(value)}" for name, value in (variant.changes | variant.recipe).items()]
    if variant.depth_schedule is not None:
        parts.append(f"depth schedule {variant.depth_schedule}")
    if variant.labels != "classes":
        parts.append(f"labels {variant.labels}")
    return "; ".join(parts) or "nothing"


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_written(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return f"[{', '.join(_written(inner) for inner in value)}]"
    return str(value)
