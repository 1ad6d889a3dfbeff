"""What a study found: its variants side by side, and every claim with what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sret_nas.arch.cost import cost_of
from sret_nas.errors import printable
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity, format_seconds

from ..console import print_line
from ..engines.results import StudyTrainingResult
from ..runs.loaded_study import StudyTraining
from ..runs.study import Claim, Study
from ..runs.study_records import StudyHistory
from .paired import Interval, PairedDifference, Verdict, judge_equality, judge_order

NARROW, WIDE = 72, 96
"""Columns of a terminal below which a table leaves out parameters and the spread, and from which it has p values."""

NOISE = (
    "Fresh permutations alone move the published SReT-T by up to 0.15 points: smaller differences of sliced networks "
    "are noise, however many seeds agree."
)
"""Said beside every comparison; two checkpoints' evaluation with the public code differed by so much."""

AGREEMENT = "where one variant is claimed to be better, a difference above 0 agrees"

VERDICTS: Mapping[Verdict, str] = {
    "holds": "holds", "does not hold": "does not hold here", "cannot tell": "cannot tell at this scale",
    "not run": "not run",
}  # fmt: skip


@dataclass(frozen=True)
class VariantOutcome:
    """A variant, and the results of its trainings by seed."""

    training: StudyTraining
    flops: int
    params: int
    results: Mapping[int, StudyTrainingResult]
    num_failed: int
    difference: PairedDifference | None
    """Errors less the reference's, in points; None for the reference, or without a common seed."""

    @property
    def errors(self) -> dict[int, float]:
        """The test errors by seed, in percent."""
        return {seed: 100 * result.error for seed, result in self.results.items()}

    @property
    def error(self) -> Interval | None:
        """The test error in percent; None without results."""
        return Interval.of(list(self.errors.values())) if self.results else None

    @property
    def cross_entropy(self) -> Interval | None:
        """The test cross-entropy in nats; None without results."""
        values = [result.cross_entropy for result in self.results.values()]
        return Interval.of(values) if values else None

    @property
    def seconds(self) -> float | None:
        """The mean time of a training's steps; None without results."""
        values = [result.train_seconds for result in self.results.values()]
        return sum(values) / len(values) if values else None

    def error_at(self, limit: int | None) -> dict[int, float]:
        """Returns the test errors by seed, in percent, with at most `limit` recursions; of all seeds that have them."""
        if limit is None:
            return self.errors
        recursions = tuple(min(limit, stage.recursions) for stage in self.training.arch.stages)
        return {
            seed: 100 * score.error
            for seed, result in self.results.items()
            for score in result.depths
            if score.recursions == recursions
        }


@dataclass(frozen=True)
class JudgedClaim:
    """A claim, and what came out."""

    claim: Claim
    difference: PairedDifference | None
    """Of an order, the errors of the variant that is claimed to be worse less those of the better one; in points."""
    verdict: Verdict

    @property
    def compared(self) -> str:
        """What the difference is, e.g. `external - internal`."""
        first, second = self.claim.pair
        depth = "" if self.claim.at_depth is None else f" at {counted(self.claim.at_depth, 'recursion')}"
        return f"{first} - {second}{depth}" if self.claim.equal else f"{second} - {first}{depth}"


@dataclass(frozen=True)
class StudyOutcome:
    """A study, as far as it has run."""

    history: StudyHistory
    variants: tuple[VariantOutcome, ...]
    teacher: StudyTrainingResult | None
    claims: tuple[JudgedClaim, ...]

    @classmethod
    def of(cls, history: StudyHistory) -> StudyOutcome:
        """Returns what the records of a study say."""
        study, results = history.loaded.study, _results(history)
        reference = {seed: 100 * result.error for seed, result in results[study.reference_name].items()}
        variants = tuple(
            _variant(history, training, results[training.name], reference) for training in history.loaded.trainings
        )
        by_name = {variant.training.name: variant for variant in variants}
        claims = tuple(_judged(claim, by_name) for claim in study.claims)
        teachers = [event.result for (name, _), event in history.finished.items() if name == "teacher"]
        return cls(history, variants, teachers[0] if teachers else None, claims)

    @property
    def study(self) -> Study:
        return self.history.loaded.study

    @property
    def num_finished(self) -> int:
        """The trainings of variants that finished."""
        return sum(len(variant.results) for variant in self.variants)

    @property
    def num_planned(self) -> int:
        return len(self.variants) * len(self.history.seeds)

    @property
    def any_result(self) -> StudyTrainingResult | None:
        """A result, for what all have in common; None if there is none."""
        return next((result for variant in self.variants for result in variant.results.values()), None)


def _results(history: StudyHistory) -> dict[str, dict[int, StudyTrainingResult]]:
    results: dict[str, dict[int, StudyTrainingResult]] = {training.name: {} for training in history.loaded.trainings}
    for (name, seed), event in sorted(history.finished.items()):
        if name in results:
            results[name][seed] = event.result
    return results


def _variant(
    history: StudyHistory, training: StudyTraining, results: dict[int, StudyTrainingResult], reference: dict[int, float]
) -> VariantOutcome:
    data = history.header.data
    training = training.on(classes=data.classes, channels=data.channels)
    cost = cost_of(training.arch)
    errors = {seed: 100 * result.error for seed, result in results.items()}
    is_reference = training.name == history.loaded.study.reference_name
    return VariantOutcome(
        training=training,
        flops=cost.flops,
        params=cost.params,
        results=results,
        num_failed=sum(name == training.name for name, _ in history.failed),
        difference=None if is_reference else PairedDifference.of(errors, reference),
    )


def _judged(claim: Claim, variants: Mapping[str, VariantOutcome]) -> JudgedClaim:
    first, second = (variants[name].error_at(claim.at_depth) for name in claim.pair)
    if claim.equal is not None:
        assert claim.within is not None
        difference = PairedDifference.of(first, second)
        return JudgedClaim(claim, difference, judge_equality(difference, claim.within))
    difference = PairedDifference.of(second, first)
    return JudgedClaim(claim, difference, judge_order(difference))


def show_outcome(outcome: StudyOutcome, console: Console) -> None:
    """Prints the variants, and every claim beside what came out."""
    console.print(_table(outcome, console.width))
    if outcome.teacher is not None:
        print_line(console, f"Teacher: test error {100 * outcome.teacher.error:.2f} %")
    console.print(describe_method(outcome), highlight=False, markup=False)
    if outcome.claims:
        console.print(f"\nClaims ({AGREEMENT})", highlight=False)
    for number, judged in enumerate(outcome.claims, start=1):
        for line in describe_claim(judged, number):
            console.print(printable(line), highlight=False, markup=False)
    console.print(NOISE, highlight=False, markup=False)


def describe_method(outcome: StudyOutcome) -> str:
    """Returns how to read the table, in sentences."""
    result = outcome.any_result
    images = f" on {counted(result.test_images, 'test image')}" if result is not None else ""
    return (
        f"Error of the last weights{images}: mean over seeds, ± their standard deviation. Difference: to "
        f"{outcome.study.reference_name} on the same seeds, in points, with the 90 % interval and the two-sided p of "
        "the paired t test."
    )


def describe_claim(judged: JudgedClaim, number: int) -> list[str]:
    """Returns lines: what is claimed, what came out, and whether that agrees."""
    claim = judged.claim
    figure = "" if claim.figure is None else f"; {claim.figure}"
    lines = [f"{number}. {claim.text} ({claim.source}{figure})"]
    if judged.difference is None:
        return [*lines, "   Here: not run"]
    return [*lines, f"   Here: {judged.compared} = {describe_difference(judged.difference)}: {verdict_of(judged)}"]


def describe_difference(difference: PairedDifference) -> str:
    """Returns e.g. `+1.20 points (90 % interval +0.31 to +2.09; 3 of 3 seeds above 0; p = 0.04)`."""
    interval = difference.interval
    if interval.seeds == 1:
        return f"{interval.mean:+.2f} points (one seed, so no interval)"
    p_value = "" if difference.p_value is None else f"; p = {difference.p_value:.2g}"
    return (
        f"{interval.mean:+.2f} points (90 % interval {interval.low:+.2f} to {interval.high:+.2f}; "
        f"{difference.positive} of {counted(interval.seeds, 'seed')} above 0{p_value})"
    )


def verdict_of(judged: JudgedClaim) -> str:
    """Returns the verdict in words, with the bound of an equality."""
    within = "" if judged.claim.within is None else f" (within {judged.claim.within:g} points)"
    return VERDICTS[judged.verdict] + within


def _table(outcome: StudyOutcome, width: int) -> Table:
    is_narrow, is_wide = width < NARROW, width >= WIDE
    study, seeds = outcome.study, len(outcome.history.seeds)
    title = (
        f"{study.title}: {outcome.num_finished} of {counted(outcome.num_planned, 'training')}, {counted(seeds, 'seed')}"
    )
    table = Table(
        title=escape(printable(title)), title_justify="left", title_style="italic", box=box.SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("variant", overflow="fold")
    columns = ["FLOPs"]
    columns += [] if is_narrow else ["params"]
    columns += ["error\n%", "differ-\nence"] if is_narrow else ["error\n%", "±", "differ-\nence", "90 %\ninterval"]
    columns += ["p", "CE\nnats", "time of\na training"] if is_wide else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for variant in outcome.variants:
        table.add_row(escape(variant.training.name), *_cells(variant, is_narrow, is_wide))
    return table


def _cells(variant: VariantOutcome, is_narrow: bool, is_wide: bool) -> list[str]:
    error, difference = variant.error, variant.difference
    cells = [format_quantity(variant.flops)]
    cells += [] if is_narrow else [format_quantity(variant.params)]
    cells += ["failed" if variant.num_failed else "not run"] if error is None else [f"{error.mean:.2f}"]
    if not is_narrow:
        cells += ["-" if error is None or error.seeds == 1 else f"{error.spread:.2f}"]
    cells += ["-" if difference is None else f"{difference.interval.mean:+.2f}"]
    if not is_narrow:
        cells += [short_interval(difference)]
    if is_wide:
        p_value = None if difference is None else difference.p_value
        cross_entropy, seconds = variant.cross_entropy, variant.seconds
        cells += ["-" if p_value is None else f"{p_value:.2g}"]
        cells += ["-" if cross_entropy is None else f"{cross_entropy.mean:.3f}"]
        cells += ["-" if seconds is None else format_seconds(seconds)]
    return cells


def short_interval(difference: PairedDifference | None) -> str:
    """Returns e.g. `+0.31 +2.09`; `-` without one."""
    if difference is None or difference.interval.seeds == 1:
        return "-"
    return f"{difference.interval.low:+.2f} {difference.interval.high:+.2f}"
