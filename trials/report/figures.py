"""The interactive figures of the report, as plotly's plain data. Colours are chosen to be seen on light and on dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sret_nas.quantities import format_latency, format_quantity

from ..engines.results import RetrainResult
from ..runs.objective_texts import TEXTS, error_text
from ..runs.objectives import Objective, error_named, error_of, final_error_of, final_test_error_of
from ..runs.options import SearchOptions
from ..runs.recommendation import BudgetCost, Recommendations
from ..runs.trial import Trial
from ..runs.uncertainty import format_prediction, images_of, images_of_trials, predicted_interval
from ..training.error_intervals import error_interval
from .error_axis import end_of_axis
from .insights import Insights, label_of

GREY, BLUE, ORANGE, GREEN, RED, PURPLE = "#8a8f98", "#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#a855f7"

MAX_POINTS = 4_000
"""Most trials off the front that are drawn; of more, evenly spaced ones. Every point costs some 200 bytes."""

Figure = dict[str, Any]

_TRIED, _SCRATCH, _CONTROL = "tried", "from scratch, test", "random control, test"
_MAY_LIE_ABOVE = (_TRIED, _SCRATCH, _CONTROL)
"""Points that need not be inside the picture, if the others are flattened by them."""

_TITLES: dict[BudgetCost, str] = {
    "flops": "FLOPs (multiply-adds) of the target",
    "params": "parameters of the target",
    "latency": "predicted latency of the target, ms",
}


def front_figure(
    trials: Sequence[Trial], front: Sequence[Trial], best: Trial, options: SearchOptions,
    recommended: Recommendations | None,
) -> Figure:  # fmt: skip
    """Returns validation and test errors against every cost, with a button for each cost."""
    costs: list[BudgetCost] = ["flops", "params", *(["latency"] if options.uses_latency else [])]  # type: ignore[list-item]
    if recommended is not None and recommended.networks:
        costs.sort(key=lambda cost: cost != recommended.networks[0].cost)  # that of the recommendations first
    figure, groups, error_range = go.Figure(), [], None
    for cost in costs:
        before = len(figure.data)
        traces = _front_traces(trials, front, best, cost, options, recommended)
        if cost == costs[0]:
            error_range = _error_range(traces)
        for trace in traces:
            figure.add_trace(_within(trace, error_range).update(visible=cost == costs[0]))
        groups.append((cost, before, len(figure.data)))
    buttons = [
        {
            "label": {"flops": "FLOPs", "params": "parameters", "latency": "latency"}[cost],
            "method": "update",
            "args": [
                {"visible": [start <= position < stop for position in range(len(figure.data))]},
                {"shapes": _budget_lines(options, cost), "xaxis.title.text": _TITLES[cost], **_ticks(trials, cost)},
            ],
        }
        for cost, start, stop in groups
    ]
    figure.update_layout(
        xaxis={"type": "log", "title": {"text": _TITLES[costs[0]], "standoff": 14}},
        yaxis={"title": {"text": f"{error_text(options.objectives).proxy_title}, %"},
               **({} if error_range is None else {"range": error_range})},
        shapes=_budget_lines(options, costs[0]), height=520, hovermode="closest",
        legend={"orientation": "h", "y": 0, "yref": "container", "yanchor": "bottom"},
        updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "y": 1.02, "xanchor": "left",
                      "yanchor": "bottom", "showactive": False}],
    )  # fmt: skip
    figure.update_layout({name.replace(".", "_"): value for name, value in _ticks(trials, costs[0]).items()})
    return _plain(figure)


def _ticks(trials: Sequence[Trial], cost: BudgetCost) -> dict[str, list[Any]]:
    """Returns ticks for the log axis of a cost, with their units, which plotly's own lack."""
    costs = [_cost(trial, cost) for trial in trials if trial.result is not None]
    low, high = math.floor(math.log10(max(min(costs), 1e-3))), math.ceil(math.log10(max(costs)))
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8) if max(costs) <= 5 * min(costs) else (1, 2, 5)  # few enough for a phone
    values = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    shown = [value for value in values if 0.7 * min(costs) <= value <= 1.5 * max(costs)]
    texts = [f"{value:g}" if cost == "latency" else format_quantity(round(value)) for value in shown]
    return {"xaxis.tickvals": shown, "xaxis.ticktext": texts}


def _front_traces(
    trials: Sequence[Trial], front: Sequence[Trial], best: Trial, cost: BudgetCost, options: SearchOptions,
    recommended: Recommendations | None,
) -> list[Any]:  # fmt: skip
    objectives = options.objectives
    on_front = {trial.number for trial in front}
    others = [trial for trial in trials if trial.result is not None and trial.number not in on_front]
    shown = [others[position] for position in _evenly(len(others), MAX_POINTS)]
    numbers = {network.number for network in recommended.networks} if recommended is not None else set()
    chosen = [trial for trial in trials if trial.number in numbers and trial.result is not None]
    finals = [(trial, trial.finals["fine-tuned"]) for trial in trials if "fine-tuned" in trial.finals]
    tested = [trial for trial in trials if trial.test is not None]
    controls = [(trial, trial.finals["control"]) for trial in trials if "control" in trial.finals]
    scratch = [(trial, trial.finals["from scratch"]) for trial in trials if "from scratch" in trial.finals]
    is_line = error_named(objectives) in objectives and cost in options.objectives
    ordered = sorted(front, key=lambda trial: _cost(trial, cost))
    traces = [
        _points(_TRIED, shown, cost, objectives, {"color": GREY, "size": 6, "opacity": 0.55}),
        go.Scatter(
            name="Pareto-optimal", x=[_cost(trial, cost) for trial in ordered],
            y=[_error(trial, objectives) for trial in ordered],
            text=[_hover(trial, objectives) for trial in ordered], hoverinfo="text",
            mode="lines+markers" if is_line else "markers", line={"shape": "hv", "color": BLUE, "width": 2},
            marker={"color": BLUE, "size": 9},
            error_y={**_bars([_exact_error(trial, objectives) for trial in ordered],
                             [_interval(trial, objectives) for trial in ordered]), "width": 2, "color": BLUE},
        ),
        _points("recommended, observed", chosen, cost, objectives, {"color": ORANGE, "size": 13, "symbol": "diamond"}),
        _predicted(chosen, cost, recommended, images_of_trials(trials)),
        _points("best.yaml", [best], cost, objectives,
                {"color": ORANGE, "size": 20, "symbol": "star", "line": {"width": 1}}),
        _errors(
            "fine-tuned, validation", [(t, f.flops, f.params, final_error_of(f, objectives)) for t, f in finals], cost,
            GREEN, "circle",
        ),
        _errors("fine-tuned, test", _test_errors(finals, objectives), cost, GREEN, "square"),
        _errors(
            "test, full depth" if options.scores_depths else "test",
            [(t, t.result.target.flops, t.result.target.params, t.test.error) for t in tested
             if t.result is not None and t.test is not None], cost, GREEN, "square",
        ),
        _errors(_SCRATCH, _test_errors(scratch, objectives), cost, PURPLE, "square"),
        _errors(_CONTROL, _test_errors(controls, objectives), cost, RED, "x"),
    ]  # fmt: skip
    return [trace for trace in traces if len(trace.x) > 0]


def _error_range(traces: Sequence[Any]) -> list[float] | None:
    """Returns the least and the largest error that the picture shows, in percent; None if it shows all."""
    others = [error for trace in traces if trace.name in _MAY_LIE_ABOVE for error in trace.y]
    seen = [error for trace in traces if trace.name not in _MAY_LIE_ABOVE for error in trace.y]
    end = end_of_axis(seen, others)
    if end is None:
        return None
    lowest = [error - below for trace in traces for error, below in zip(trace.y, _below(trace), strict=True)]
    return [max(0.0, min(lowest) - 0.03 * end), end]


def _below(trace: Any) -> Sequence[float]:
    """Returns how far the error bars of a trace reach below its points."""
    below = trace.error_y.arrayminus
    return [0.0] * len(trace.y) if below is None else below


def _within(trace: Any, error_range: list[float] | None) -> Any:
    """Moves the points of a trace that lie above the picture to its edge, as triangles; their text has the errors."""
    if error_range is None or trace.name not in _MAY_LIE_ABOVE:
        return trace
    end = error_range[1]
    symbol = trace.marker.symbol or "circle"
    symbols = ["triangle-up" if error > end else symbol for error in trace.y]
    return trace.update(y=[min(error, end) for error in trace.y], marker={"symbol": symbols}, cliponaxis=False)


def _points(
    name: str, trials: Sequence[Trial], cost: BudgetCost, objectives: Sequence[Objective], marker: dict[str, Any]
) -> Any:
    return go.Scatter(
        name=name, mode="markers", x=[_cost(trial, cost) for trial in trials],
        y=[_error(trial, objectives) for trial in trials],
        text=[_hover(trial, objectives) for trial in trials], hoverinfo="text", marker=marker,
    )  # fmt: skip


def _test_errors(
    finals: Sequence[tuple[Trial, RetrainResult]], objectives: Sequence[Objective]
) -> list[tuple[Trial, int, int, float]]:
    return [(trial, final.flops, final.params, final_test_error_of(final, objectives)) for trial, final in finals]


def _predicted(
    chosen: Sequence[Trial], cost: BudgetCost, recommended: Recommendations | None, images: float | None
) -> Any:
    """Returns what the model predicts of the recommended networks, with 95 % intervals on new images."""
    known = [(trial, network) for trial in chosen if recommended and (network := recommended.of(trial.number))]
    errors = [network.predicted_error for _, network in known]
    intervals = [
        predicted_interval(network.predicted_error, network.deviation, images) or (network.predicted_error,) * 2
        for _, network in known
    ]
    return go.Scatter(
        name="recommended, predicted", mode="markers", x=[_cost(trial, cost) for trial, _ in known],
        y=[round(100 * network.predicted_error, 4) for _, network in known],
        text=[
            f"trial {trial.number}, predicted: "
            f"{format_prediction(network.predicted_error, network.deviation, images)}" for trial, network in known
        ],
        hoverinfo="text",
        marker={"color": ORANGE, "size": 11, "symbol": "diamond-open", "line": {"width": 2}},
        error_y={**_bars(errors, intervals), "width": 3, "color": ORANGE},
    )  # fmt: skip


def _errors(
    name: str, points: Sequence[tuple[Trial, int, int, float]], cost: BudgetCost, colour: str, symbol: str
) -> Any:
    """Returns errors measured at the end, each with the trial, FLOPs and parameters that it belongs to."""
    known = [] if cost == "latency" else points
    return go.Scatter(
        name=name, mode="markers",
        x=[flops if cost == "flops" else params for _, flops, params, _ in known],
        y=[100 * error for *_, error in known],
        text=[f"trial {trial.number}, {name}: {error:.2%}" for trial, _, _, error in known], hoverinfo="text",
        marker={"color": colour, "size": 10, "symbol": symbol, "line": {"width": 1}},
    )  # fmt: skip


def _cost(trial: Trial, cost: BudgetCost) -> float:
    assert trial.result is not None
    target = trial.result.target
    if cost == "latency":
        return (target.latency_us or 0) / 1000
    return float(target.flops if cost == "flops" else target.params)


def _error(trial: Trial, objectives: Sequence[Objective]) -> float:
    assert trial.result is not None
    return round(100 * error_of(trial.result, objectives), 4)


def _exact_error(trial: Trial, objectives: Sequence[Objective]) -> float:
    assert trial.result is not None
    return error_of(trial.result, objectives)


def _interval(trial: Trial, objectives: Sequence[Objective]) -> tuple[float, float]:
    """Returns the 95 % interval of a trial's error on new images; the error itself if the images are not known.

    Of a mean over depths it is the widest that there can be: that of depths which err on the same images.
    """
    assert trial.result is not None
    error, images = error_of(trial.result, objectives), images_of(trial.result)
    return (error, error) if images is None else error_interval(error, images)


def _bars(errors: Sequence[float], intervals: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Returns error bars in points: the distances of intervals' bounds from errors, which may lie outside of them."""
    return {
        "type": "data", "symmetric": False, "thickness": 1,
        "array": [100 * max(0.0, high - error) for error, (_, high) in zip(errors, intervals, strict=True)],
        "arrayminus": [100 * max(0.0, error - low) for error, (low, _) in zip(errors, intervals, strict=True)],
    }  # fmt: skip


def _hover(trial: Trial, objectives: Sequence[Objective]) -> str:
    result = trial.result
    assert result is not None
    latency = "" if result.target.latency_us is None else f", {format_latency(result.target.latency_us)}"
    stages = trial.candidate.arch.summary().replace(" | ", "<br>")
    names = dict.fromkeys(("error", error_named(objectives)))
    errors = "".join(f"{TEXTS[name].title} {error_of(result, (name,)):.2%}<br>" for name in names)
    return (
        f"<b>trial {trial.number}</b> {trial.candidate.arch.arch_id}<br>{errors}"
        f"{format_quantity(result.target.flops)} FLOPs, {format_quantity(result.target.params)} params{latency}<br>"
        f"{stages}"
    )


def _budget_lines(options: SearchOptions, cost: BudgetCost) -> list[dict[str, Any]]:
    budget = options.budget
    bounds = {
        "flops": (budget.flops_min, budget.flops_max),
        "params": (budget.params_min, budget.params_max),
        "latency": (None, None if options.latency_max is None else options.latency_max / 1000),
    }[cost]
    return [
        {
            "type": "line", "x0": bound, "x1": bound, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": RED, "dash": "dash", "width": 1.5},
            "label": {"text": "budget", "textposition": "end", "font": {"color": RED, "size": 11}},
        }
        for bound in bounds
        if bound is not None
    ]  # fmt: skip


def effects_figure(insights: Insights) -> Figure | None:
    """Returns the effect of every step between choices, with its interval; None if there are none."""
    effects = insights.effects[::-1]  # plotly draws the first at the bottom
    if not effects:
        return None
    points = [100 * effect.mean for effect in effects]
    figure = go.Figure(
        go.Scatter(
            x=points, y=[label_of(effect, insights.space) for effect in effects], mode="markers",
            marker={"color": [GREEN if e.high < 0 else RED if e.low > 0 else GREY for e in effects], "size": 9},
            error_x={
                "type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": GREY,
                "array": [100 * (effect.high - effect.mean) for effect in effects],
                "arrayminus": [100 * (effect.mean - effect.low) for effect in effects],
            },
            hovertemplate="%{y}: %{x:+.2f} points<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        height=90 + 22 * len(effects),
        xaxis={"title": {"text": f"points of {insights.error}"}, "zeroline": True},
        yaxis={"automargin": True, "dtick": 1, "range": [-0.7, len(effects) - 0.3]},
    )
    return _plain(figure)


def predictions_figure(insights: Insights) -> Figure:
    """Returns left-out predictions against observed errors."""
    observed, predicted = 100 * insights.observed, 100 * insights.left_out
    ends = [float(min(observed.min(), predicted.min())), float(max(observed.max(), predicted.max()))]
    figure = go.Figure(
        [
            go.Scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip"),
            go.Scatter(
                x=predicted.round(3).tolist(), y=observed.round(3).tolist(), mode="markers",
                marker={"color": BLUE, "size": 6, "opacity": 0.6},
                text=[f"trial {number}" for number in insights.numbers],
                hovertemplate="%{text}: predicted %{x:.2f} %, observed %{y:.2f} %<extra></extra>",
            ),
        ]
    )  # fmt: skip
    figure.update_layout(
        height=400, showlegend=False,
        xaxis={"title": {"text": f"{insights.error} predicted from the other trials, %"}},
        yaxis={"title": {"text": f"observed {insights.error}, %"}},
    )  # fmt: skip
    return _plain(figure)


def progress_figure(values: Sequence[tuple[int, float, float]], name: str) -> Figure:
    """Returns a quality of the search over trials and over time.

    Args:
        values: For each finished trial, in order of ending: how many have ended, seconds, and the quality.
        name: What the quality is.
    """
    counts, seconds, quality = (list(column) for column in zip(*values, strict=True))
    figure = go.Figure()
    for x, visible in ((counts, True), ([second / 60 for second in seconds], False)):
        figure.add_trace(go.Scatter(
            x=x, y=quality, mode="lines", line={"color": BLUE, "shape": "hv"}, visible=visible, showlegend=False,
        ))  # fmt: skip
    buttons = [
        {"label": label, "method": "update", "args": [{"visible": shown}, {"xaxis.title.text": title}]}
        for label, shown, title in (("trials", [True, False], "trials"), ("time", [False, True], "minutes"))
    ]
    figure.update_layout(
        height=340, xaxis={"title": {"text": "trials"}}, yaxis={"title": {"text": name}},
        updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "y": 1.02, "xanchor": "left",
                      "yanchor": "bottom", "showactive": False}],
    )  # fmt: skip
    return _plain(figure)


def time_figure(work: dict[str, float]) -> Figure:
    """Returns the seconds of workers by kind of work."""
    items = sorted(work.items(), key=lambda item: item[1])
    figure = go.Figure(
        go.Bar(
            x=[seconds for _, seconds in items], y=[name for name, _ in items], orientation="h",
            marker={"color": BLUE}, hovertemplate="%{y}: %{x:.0f} s<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        height=120 + 34 * len(items), xaxis={"title": {"text": "seconds of workers"}}, yaxis={"automargin": True}
    )
    return _plain(figure)


def _evenly(count: int, most: int) -> list[int]:
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist() if count else []


def _plain(figure: Any) -> Figure:
    """Returns a figure as plain data, transparent, so that the page's theme shows through."""
    figure.update_layout(
        template="none", modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
        margin={"l": 64, "r": 16, "t": 48, "b": 48}, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", font={"family": "system-ui, sans-serif", "size": 13},
    )  # fmt: skip
    data: Figure = figure.to_plotly_json()
    return data
