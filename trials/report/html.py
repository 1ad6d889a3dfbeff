"""Writes `report.html`: one page that needs no network, written while the search runs and at its end."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import PRESETS
from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from sret_nas.quantities import format_quantity, format_seconds
from sret_nas.space.search_space import SearchSpace
from sret_nas.yaml_files import dump_yaml

from ..data import PreparedData
from ..data.samples import samples_of
from ..program_name import resume_command, typed_words
from ..runs.best import Choice, choose_best, size_after_tuning
from ..runs.history import History
from ..runs.objective_texts import error_text
from ..runs.objectives import archived, error_of, pareto_front
from ..runs.options import SearchOptions
from ..runs.recommendation import ORIGIN
from ..runs.recorded_search import state_of
from ..runs.size_prior import size_in_long_trainings
from ..runs.timeline import Timeline, read_timeline
from ..runs.trial import Trial
from ..runs.uncertainty import format_prediction, images_of_trials, predicted_interval
from ..strategies.sret import SReTDomain
from ..strategies.structure import MIN_RESULTS
from .depths import depth_cells, operating_points
from .finals import compared, describe_noise, late_learners, pairs_of
from .insights import HYPERVOLUME, Insights, insights_of, label_of, quality_over_trials
from .network_drawing import draw_network
from .outputs import recommended_name
from .recommended import describe_prediction, not_scored

REPORT = "report.html"

RELOAD_SECONDS = 30
"""Seconds after which an open page of a running search loads itself anew."""

MAX_FAILURES, MAX_FRONT = 20, 100
"""Most rows of failures and of the front."""

SAMPLE_CLASSES, SAMPLES_PER_CLASS = 12, 4


@dataclass(frozen=True)
class ReportInput:
    """What a report is made of."""

    run_dir: Path
    history: History
    options: SearchOptions
    domain: SReTDomain
    data: PreparedData | None
    """The prepared images; None if they are not there any more."""
    is_running: bool


def write_report(given: ReportInput) -> Path:
    """Writes the report atomically and returns its path."""
    path = given.run_dir / REPORT
    write_atomically(path, _page(given))
    return path


class LiveReport:
    """Writes the report of a running search now and then, as an open page loads itself anew.

    Fitting the model takes the longer the more trials there are, so reports take at most a twentieth of the time.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + RELOAD_SECONDS

    def refresh(self, make: Callable[[], ReportInput]) -> None:
        """Writes the report that `make` describes, if it is time to. After an error, it never is again."""
        started = time.monotonic()
        if started < self._next:
            return
        self._next = math.inf
        write_report(make())
        ended = time.monotonic()
        self._next = ended + max(RELOAD_SECONDS, 20 * (ended - started))


def _page(given: ReportInput) -> str:
    """Returns the page. Everything that came from files is escaped, in HTML and in scripts."""
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    template = (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    context = _context(given)
    figures = context["figures"]

    def plot(name: str, title: str) -> Markup:
        if name not in figures:
            return Markup("")
        return Markup('<div class="plot" id="plot-{}" role="img" aria-label="{}"></div>').format(name, title)

    context["drawings"] = [Markup(drawing) for drawing in context["drawings"]]
    return environment.from_string(template).render(
        **context, plot=plot, plotly_js=Markup(get_plotlyjs()), figures_json=Markup(_script_json(figures)),
        embedded=Markup(_script_json(context["machine_readable"])),
    )  # fmt: skip


def _script_json(data: Any) -> str:
    """Returns JSON that can stand inside a script element, whatever text it holds."""
    import plotly

    text = json.dumps(data, cls=plotly.utils.PlotlyJSONEncoder)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _context(given: ReportInput) -> dict[str, Any]:
    from . import figures as draw

    history, options, trials = given.history, given.options, given.history.in_order
    timeline = read_timeline(given.run_dir)
    finished = [trial for trial in trials if trial.result is not None]
    front = pareto_front(trials, options.objectives)
    choice = choose_best(trials, options.objectives, options.best_by, history.recommended) if finished else None
    insights = insights_of(given.domain, trials, options.objectives)
    figures: dict[str, Any] = {}
    quality = ""
    if choice is not None:
        figures["front"] = draw.front_figure(trials, front, choice.trial, options, history.recommended)
        quality, steps = quality_over_trials(trials, timeline, options)
        figures["progress"] = draw.progress_figure(steps, quality)
    if timeline.work:
        figures["time"] = draw.time_figure(timeline.work)
    if insights is not None:
        figures["predictions"] = draw.predictions_figure(insights)
        if (effects := draw.effects_figure(insights)) is not None:
            figures["effects"] = effects
    return {
        **_asked(given, timeline, finished),
        **_recommended(given, choice),
        **_learned(insights),
        **_luck(trials),
        **_failures(trials),
        **_data(given),
        "figures": figures,
        "shows_hypervolume": quality == HYPERVOLUME,
        "front_rows": [_row(trial, choice, options) for trial in archived(trials, options.objectives)[:MAX_FRONT]],
        "scores_depths": options.scores_depths,
        "compared_error": error_text(options.objectives).word,
        **_depths(given, choice),
        "drawings": _drawings(given, choice),
        "wall": format_seconds(timeline.wall_seconds),
        "is_running": given.is_running,
        "reload_seconds": RELOAD_SECONDS,
        "machine_readable": _machine_readable(given, choice, front, insights),
    }


def _asked(given: ReportInput, timeline: Timeline, finished: Sequence[Trial]) -> dict[str, Any]:
    header, options, space = given.history.header, given.options, given.domain.space
    recommended = sum(trial.origin == ORIGIN for trial in finished)
    and_more = f", and {recommended} recommended" if recommended else ""
    ended = given.history.num_ended
    of_all = f" of {options.trials:,}" if ended <= options.trials else ""  # fewer may be asked for when it is resumed
    state = "running" if given.is_running else state_of(given.history, options, given.domain)
    if state.endswith(("trial", "trials")):
        state = f"ended after {state}"
    elif state != "running" and ended < options.trials:
        of_all, state = "", f"{state}: every candidate inside the budget has been tried"
    facts = [
        (options.describe_budget(), "budget"),
        (space.name, f"space, {format_quantity(space.num_networks)} networks"),
        (f"{space.image_size} px, {space.classes:,} classes", "target"),
        (f"{options.image_size} px, {header['data']['classes']:,} classes", "proxy"),
        *([("balanced", "error: every class counts alike")] if options.balanced_error else []),
        (f"{len(finished) - recommended:,}{of_all}", f"trials that finished{and_more}"),
        (options.strategy, f"strategy, seed {options.seed}"),
        (format_seconds(timeline.wall_seconds), f"on {header['device']}"),
    ]
    return {
        "title": f"{given.run_dir.name}: SReTs with {options.describe_budget()}",
        "state": state,
        "updated": f"begun {_clock(timeline.began)}, this page is of {_clock(time.time())}",
        "facts": facts,
        "command": typed_words(header["command"]),
        "configuration": dump_yaml({"options": options.model_dump(mode="json"), "versions": header["versions"]}),
    }


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _recommended(given: ReportInput, choice: Choice | None) -> dict[str, Any]:
    known, rows = given.history.recommended, []
    images = images_of_trials(given.history.in_order)
    for network in () if known is None else known.networks:
        trial = given.history.trials[network.number]
        row = _row(trial, choice, given.options)
        row["limit"] = f"{network.label} (bend)" if network.is_bend else network.label
        row["predicted"] = format_prediction(network.predicted_error, network.deviation, images)
        row["file"] = "" if trial.result is None else recommended_name(network, trial)
        rows.append(row)
    if given.options.best_by == "proxy":
        missing = "Nothing, because of --best-by proxy; the front below is what was found."
    elif given.is_running:
        missing = "Recommendations follow once all trials have ended."
    elif known is None and sum(trial.result is not None for trial in given.history.in_order) >= MIN_RESULTS:
        missing = f"Nothing before the search has finished: carry on with {resume_command('search', given.run_dir)}"
    else:
        missing = "Nothing: too few trials have finished to judge structures."
    return {
        "recommended_rows": rows,
        "no_recommendation": missing,
        "best_number": None if choice is None else choice.trial.number,
        "best_reason": None if choice is None else choice.reason,
        "tuned_sizes": size_after_tuning(given.history.in_order, given.options.objectives, known),
        "long_trainings": size_in_long_trainings(given.history.in_order, known),
        "prediction_note": describe_prediction(images),
        "is_bounded": given.options.upper_bound is not None,
        "has_bend": known is not None and any(network.is_bend for network in known.networks),
    }


def _row(trial: Trial, choice: Choice | None, options: SearchOptions) -> dict[str, Any]:
    result, final = trial.result, trial.finals.get("fine-tuned")
    test = final.test_error if final is not None else None if trial.test is None else trial.test.error
    return {
        "number": trial.number,
        "arch_id": trial.candidate.arch.arch_id,
        "stages": trial.candidate.arch.summary(),
        "is_best": choice is not None and trial is choice.trial,
        "flops": "-" if result is None else format_quantity(result.target.flops),
        "params": "-" if result is None else format_quantity(result.target.params),
        "compared": not_scored(trial) if result is None else f"{error_of(result, options.objectives):.2%}",
        "observed": "-" if result is None else f"{result.error:.2%}",
        "tuned": "-" if final is None else f"{final.error:.2%}",
        "test": "-" if test is None else f"{test:.2%}",
    }


def _depths(given: ReportInput, choice: Choice | None) -> dict[str, Any]:
    """Returns the operating points of the networks in the other tables that were trained at several depths."""
    history, options = given.history, given.options
    known = () if history.recommended is None else history.recommended.networks
    networks = [history.trials[network.number] for network in known]
    networks += archived(history.in_order, options.objectives)[:MAX_FRONT]
    if choice is not None:
        networks.append(choice.trial)
    rows = [
        {"number": trial.number, "is_best": choice is not None and trial is choice.trial, "cells": depth_cells(point)}
        for trial in sorted({trial.number: trial for trial in networks}.values(), key=lambda each: each.number)
        for point in operating_points(trial, options)
    ]
    note = "" if options.scores_depths else "Shallower depths were scored on fewer validation images."
    return {"depth_rows": rows, "depth_note": note}


def _learned(insights: Insights | None) -> dict[str, Any]:
    if insights is None:
        return {"insights": None, "effect_rows": []}
    rows = [
        {
            "label": label_of(effect, insights.space),
            "mean": f"{100 * effect.mean:+.2f}",
            "interval": f"{100 * effect.low:+.2f} to {100 * effect.high:+.2f}",
            "flops": f"{effect.cost_ratios[0] - 1:+.0%}",
        }
        for effect in insights.effects
    ]
    errors = insights.left_out - insights.observed
    text = (
        f"Kendall's tau is {insights.tau:.2f} over {len(insights.numbers):,} trials (1 ranks them all right, 0 is "
        f"chance), and the typical difference {100 * float((errors**2).mean() ** 0.5):.2f} points."
    )
    return {"insights": text, "effect_rows": rows}


def _luck(trials: Sequence[Trial]) -> dict[str, Any]:
    pairs = pairs_of(trials)
    rows = [
        {
            "number": trial.number,
            "found_flops": format_quantity(found.flops),
            "random_flops": format_quantity(random.flops),
            "found": f"{found.test_error:.2%}",
            "random": f"{random.test_error:.2%}",
            "gain": compared(random.test_error - found.test_error),
        }
        for trial, found, random in pairs
    ]
    noise = " ".join([describe_noise(pairs), *late_learners(pairs)]) if pairs else ""
    return {"luck_rows": rows, "luck_noise": noise}


def _failures(trials: Sequence[Trial]) -> dict[str, Any]:
    failed = [trial for trial in trials if trial.failure is not None]
    rows = [
        {"number": trial.number, "cause": trial.failure.cause, "message": trial.failure.message}
        for trial in failed[:MAX_FAILURES]
        if trial.failure is not None
    ]
    return {"failures": rows, "more_failures": max(0, len(failed) - MAX_FAILURES)}


def _data(given: ReportInput) -> dict[str, Any]:
    samples = []
    if given.data is not None:
        for name, pictures in samples_of(given.data, SAMPLES_PER_CLASS, SAMPLE_CLASSES):
            uris = [f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in pictures]
            samples.append({"name": name, "uris": uris})
    return {"data_summary": given.history.header["data"]["summary"], "samples": samples}


def _drawings(given: ReportInput, choice: Choice | None) -> list[str]:
    """Draws what is recommended, beside the cheapest network of the front and the published one of nearest FLOPs."""
    if choice is None:
        return []
    shown: dict[str, tuple[str, ArchConfig]] = {}
    known = given.history.recommended
    for network in () if known is None else known.networks:
        arch = given.history.trials[network.number].candidate.arch
        shown.setdefault(arch.arch_id, (f"recommended, at most {network.label}", arch))
    best = choice.trial.candidate.arch
    shown.setdefault(best.arch_id, ("best.yaml", best))
    cheapest = pareto_front(given.history.in_order, given.options.objectives)[0].candidate.arch
    shown.setdefault(cheapest.arch_id, ("the cheapest of the front", cheapest))
    published = _published(given.domain.space)
    if published is not None:
        shown.setdefault(published[1].arch_id, published)
    archs = [arch for _, arch in shown.values()]
    widest = max(stage.width for arch in archs for stage in arch.stages)
    finest = max(side for arch in archs for side in arch.resolutions)
    return [draw_network(arch, title, widest, finest) for title, arch in shown.values()]


def _published(space: SearchSpace) -> tuple[str, ArchConfig] | None:
    """Returns the published SReT-T for the same images and classes; None if it does not exist for them."""
    try:
        arch = ArchConfig.from_dict(
            {**PRESETS["sret_t"].to_dict(), "image_size": space.image_size, "classes": space.classes,
             "channels": space.channels}, "sret_t",
        )  # fmt: skip
    except UserError:
        return None
    return "published: SReT-T", arch


def _machine_readable(
    given: ReportInput, choice: Choice | None, front: Sequence[Trial], insights: Insights | None
) -> dict[str, Any]:
    """Returns the results as plain data, for programs that read the page."""

    def depth_error(trial: Trial) -> dict[str, float | None]:
        if not given.options.scores_depths:
            return {}
        return {"depth_error": None if trial.result is None else error_of(trial.result, ("depth_error",))}

    def plain(trial: Trial) -> dict[str, Any]:
        result = trial.result
        return {
            "trial": trial.number,
            "arch_id": trial.candidate.arch.arch_id,
            "architecture": trial.candidate.arch.to_dict(),
            "error": None if result is None else result.error,
            **depth_error(trial),
            "flops": None if result is None else result.target.flops,
            "params": None if result is None else result.target.params,
        }

    known, images = given.history.recommended, images_of_trials(given.history.in_order)
    recommended = None if known is None else known.model_dump(mode="json")
    for network in () if recommended is None else recommended["networks"]:
        interval = predicted_interval(network["predicted_error"], network["deviation"], images)
        network["interval_on_new_images"] = interval
    return {
        "options": given.options.model_dump(mode="json"),
        "best": None if choice is None else {**plain(choice.trial), "reason": choice.reason},
        "front": [plain(trial) for trial in front[:MAX_FRONT]],
        "recommended": recommended,
        "effects": []
        if insights is None
        else [
            {"choice": label_of(e, insights.space), "mean": e.mean, "low": e.low, "high": e.high}
            for e in insights.effects
        ],
    }
