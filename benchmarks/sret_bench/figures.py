"""What the tables say: how additive recursion is, what short trainings tell, and how supernets compare with proxies.

A section is computed as soon as there is enough for it, says how many networks it is of, and is `None` before. All
intervals are 95 % percentile intervals of a bootstrap over networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.ranking.metrics import FloatArray, IntArray, cost_bins, interval, resamples, tau_b, taus
from benchmarks.sret_bench.chosen import STRUCTURES
from benchmarks.sret_bench.tables import Line
from sret_nas.arch.config import ArchConfig
from sret_nas.space.chain import chain_of
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace
from sret_nas.surrogate.features import EffectTerms
from sret_nas.surrogate.model import Surrogate

Figures = dict[str, Any]

MIN_NETWORKS, MIN_TRAININGS = 100, 6
"""From so many networks with inherited scores, and so many trainings from scratch, a section is computed."""
FOLDS = 10
BINS = 10
"""Bins of cost with equally many networks, inside which ranks at like cost are compared."""
MODELS = "FLOPs", "trend", "single effects", "with pairs"
LABELS = 60, 130, 260, 520, 1_040
SPLITS = 10
TRIALS = 50, 200, 1_000
"""Networks that a search ranks, for the comparison at equal seconds."""


def estimate(value: float, samples: FloatArray, digits: int = 3) -> Figures:
    """Returns a figure and its interval."""
    return {"value": round(float(value), digits), "interval": [round(bound, digits) for bound in interval(samples)]}


def tau_estimate(predicted: FloatArray, measured: FloatArray, bins: IntArray | None = None) -> Figures:
    """Returns Kendall's tau-b, in all or inside bins, with its interval; `None` for a value that is not a number."""
    value = tau_b(predicted, measured, bins)
    if not np.isfinite(value):
        return {"value": None, "interval": None, "n": len(measured)}
    return {**estimate(value, taus(predicted, measured, resamples(len(measured)), bins)), "n": len(measured)}


# Inherited scores


def additivity(space: SearchSpace, lines: Sequence[Line]) -> Figures | None:
    """Returns R2 and tau of models on networks they have not seen, for all sets of networks and for the window."""
    if len(lines) < MIN_NETWORKS:
        return None
    errors = np.array([line["error"] for line in lines])
    points = points_of(space, lines)
    in_window = np.array([line["set"] == "window" for line in lines])
    bins = cost_bins(np.array([float(line["flops"]) for line in lines]), BINS)
    result: Figures = {"n": len(lines), "range": [float(errors.min()), float(errors.max())], "models": {}}
    drawn = resamples(len(lines))
    with threadpool_limits(1):
        for model in MODELS:
            predicted = cross_validated(space, model, points, errors)
            found = {
                "r2": r2_estimate(predicted, errors, drawn),
                "tau": tau_estimate(predicted, errors),
                "tau_at_like_cost": tau_estimate(predicted, errors, bins),
            }
            if in_window.sum() >= MIN_NETWORKS:
                found["tau_in_window"] = tau_estimate(predicted[in_window], errors[in_window])
                found["r2_in_window"] = r2_estimate(
                    predicted[in_window], errors[in_window], resamples(int(in_window.sum()))
                )
            result["models"][model] = found
        result["labels"] = {str(n): _by_labels(space, points, errors, n) for n in LABELS if n <= len(lines) // 2}
    return result


def points_of(space: SearchSpace, lines: Sequence[Line]) -> IntArray:
    """Returns the networks as choices, of shape (n, stages)."""
    costs = choice_costs_of(space)
    return np.array([costs.choices(space, ArchConfig.from_dict(line["architecture"])) for line in lines])


def predict(space: SearchSpace, model: str, points: IntArray, values: FloatArray, unseen: IntArray) -> FloatArray:
    """Returns what a model fitted to labelled points predicts of unseen ones."""
    chain = chain_of(space)
    costs, unseen_costs = (chain.costs(table).astype(float) for table in (points, unseen))
    if model == "FLOPs":
        slope, offset = np.polyfit(np.log(costs[:, 0]), values, 1)
        line: FloatArray = slope * np.log(unseen_costs[:, 0]) + offset
        return line
    terms = EffectTerms(chain, has_pairs=model == "with pairs")
    fit = Surrogate(terms, points, costs, values, (0,), is_additive=model != "trend")
    return fit.predict(unseen, unseen_costs, fit.mean_weights)[:, 0]


def cross_validated(space: SearchSpace, model: str, points: IntArray, values: FloatArray) -> FloatArray:
    """Returns a prediction for each network by models that were fitted to the other folds."""
    folds = np.random.default_rng(0).permutation(len(points)) % FOLDS
    predicted = np.empty(len(points))
    for fold in range(FOLDS):
        known, unseen = folds != fold, folds == fold
        predicted[unseen] = predict(space, model, points[known], values[known], points[unseen])
    return predicted


def r2(predicted: FloatArray, measured: FloatArray, counts: FloatArray) -> FloatArray:
    """Returns the share of variance explained in samples (m,) in which network i occurs `counts[:, i]` times."""
    means = counts @ measured / counts.sum(axis=1)
    spread = counts @ measured**2 / counts.sum(axis=1) - means**2
    explained: FloatArray = 1 - counts @ (predicted - measured) ** 2 / counts.sum(axis=1) / spread
    return explained


def r2_estimate(predicted: FloatArray, measured: FloatArray, counts: FloatArray) -> Figures:
    return estimate(float(r2(predicted, measured, np.ones((1, len(measured))))[0]), r2(predicted, measured, counts))


def _by_labels(space: SearchSpace, points: IntArray, errors: FloatArray, num_labels: int) -> Figures:
    """Returns medians over random splits, and the range of the splits."""
    rng = np.random.default_rng(num_labels)
    found: dict[str, list[tuple[float, float]]] = {model: [] for model in ("trend", "with pairs")}
    for _ in range(SPLITS):
        order = rng.permutation(len(points))
        known, unseen = order[:num_labels], order[num_labels:]
        for model, scores in found.items():
            predicted = predict(space, model, points[known], errors[known], points[unseen])
            explained = float(r2(predicted, errors[unseen], np.ones((1, len(unseen))))[0])
            scores.append((explained, tau_b(predicted, errors[unseen])))
    return {
        model: {
            "r2": _median_and_range([score[0] for score in scores]),
            "tau": _median_and_range([s[1] for s in scores]),
        }
        for model, scores in found.items()
    }


def _median_and_range(values: list[float]) -> list[float]:
    return [round(float(value), 3) for value in (np.median(values), min(values), max(values))]


def between_supernets(lines: Sequence[Line]) -> Figures | None:
    """Returns how far two supernets of other seeds agree: over all networks, at like cost, and in the window.

    Of more than two, these are the two with the most networks in common.
    """
    by_supernet: dict[int, dict[int, Line]] = {}
    for line in lines:
        by_supernet.setdefault(line["supernet"], {})[line["number"]] = line
    if len(by_supernet) < 2:
        return None
    scored = (by_supernet[seed] for seed in sorted(by_supernet))
    one, other = max(combinations(scored, 2), key=lambda pair: len(pair[0].keys() & pair[1].keys()))
    common = sorted(one.keys() & other.keys())
    if len(common) < MIN_NETWORKS:
        return None
    first, second = (np.array([found[number]["error"] for number in common]) for found in (one, other))
    bins = cost_bins(np.array([float(one[number]["flops"]) for number in common]), BINS)
    in_window = np.array([one[number]["set"] == "window" for number in common])
    return {
        "n": len(common),
        "tau": tau_estimate(first, second),
        "tau_at_like_cost": tau_estimate(first, second, bins),
        "tau_in_window": tau_estimate(first[in_window], second[in_window]),
        "correlation": round(float(np.corrcoef(first, second)[0, 1]), 3),
        "mean_difference": round(float((second - first).mean()), 5),
    }


# Trainings from scratch


def scratch_rows(
    lines: Sequence[Line], schedule: int | None, images: int, seed: int = 0
) -> dict[tuple[int, str], Line]:
    """Returns the scores at a length, by cost and structure; `schedule` None is that of a training that ends there."""
    wanted = images if schedule is None else schedule
    return {
        (line["cost"], line["structure"]): line
        for line in lines
        if line["schedule_images"] == wanted and line["images"] == images and line["seed"] == seed
    }


def lengths(lines: Sequence[Line]) -> Figures | None:
    """Returns for every length how it ranks networks, against the end of long trainings, and its slope over FLOPs."""
    longest = max((line["schedule_images"] for line in lines), default=0)
    final = scratch_rows(lines, longest, longest)
    if len(final) < MIN_TRAININGS:
        return None
    on_the_way = sorted({line["images"] for line in lines if line["schedule_images"] == longest})
    ended = sorted({line["schedule_images"] for line in lines} - {longest})
    return {
        "n": len(final),
        "images": longest,
        "on_the_way": {str(n): _length(scratch_rows(lines, longest, n), final) for n in on_the_way},
        "own_schedule": {str(n): _length(scratch_rows(lines, None, n), final) for n in ended},
        "second_seeds": second_seeds(lines, longest),
    }


def _length(rows: Mapping[tuple[int, str], Line], final: Mapping[tuple[int, str], Line]) -> Figures:
    keys = sorted(rows.keys() & final.keys())
    if len(keys) < MIN_TRAININGS:
        return {"n": len(keys)}
    errors = np.array([rows[key]["error"] for key in keys])
    ends = np.array([final[key]["error"] for key in keys])
    costs = np.array([key[0] for key in keys])
    return {
        "n": len(keys),
        "tau": tau_estimate(errors, ends),
        "tau_at_equal_cost": tau_estimate(errors, ends, costs),
        "slope": slope_estimate([rows[key] for key in keys]),
    }


def slope_estimate(rows: Sequence[Line]) -> Figures:
    """Returns points of error per doubling of FLOPs, by least squares, with an interval over networks."""
    logs = np.log2([float(row["flops"]) for row in rows])
    errors = np.array([100 * row["error"] for row in rows])
    counts = np.vstack([np.ones(len(rows)), resamples(len(rows))])
    total = counts.sum(axis=1)
    means, levels = counts @ logs / total, counts @ errors / total
    spread = counts @ logs**2 / total - means**2
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = (counts @ (logs * errors) / total - means * levels) / spread
    return estimate(slopes[0], slopes[1:][np.isfinite(slopes[1:])], 2)


def second_seeds(lines: Sequence[Line], longest: int) -> Figures | None:
    """Returns the standard deviation of one training's error, from networks that were trained twice."""
    first, second = (scratch_rows(lines, longest, longest, seed) for seed in (0, 1))
    keys = sorted(first.keys() & second.keys())
    if not keys:
        return None
    gaps = np.array([first[key]["error"] - second[key]["error"] for key in keys])
    return {"n": len(keys), "noise_sd": round(float(np.sqrt(np.mean(gaps**2) / 2)), 5)}


def structures(lines: Sequence[Line]) -> Figures | None:
    """Returns whether long training agrees with the inherited model on best, middling and worst at each cost."""
    longest = max((line["schedule_images"] for line in lines), default=0)
    final = scratch_rows(lines, longest, longest)
    if len(final) < MIN_TRAININGS:
        return None
    keys = sorted(final)
    predicted = np.array([final[key]["predicted_error"] for key in keys])
    measured = np.array([final[key]["error"] for key in keys])
    costs = np.array([key[0] for key in keys])
    result: Figures = {
        "n": len(keys),
        "tau": tau_estimate(predicted, measured),
        "tau_at_equal_cost": tau_estimate(predicted, measured, costs),
    }
    for better, worse in (("best", "worst"), ("best", "middling"), ("middling", "worst")):
        gaps = np.array([
            final[cost, worse]["error"] - final[cost, better]["error"]
            for cost in range(costs.max() + 1)
            if (cost, worse) in final and (cost, better) in final
        ])  # fmt: skip
        if len(gaps) > 1:
            means = resamples(len(gaps)) @ gaps / len(gaps)
            name = f"{worse} less {better}"
            result[name] = {**estimate(gaps.mean(), means, 4), "n": len(gaps), "better": int((gaps > 0).sum())}
    assert set(STRUCTURES) >= {key[1] for key in keys}
    return result


def unseen_models(
    lines: Sequence[Line], models: Mapping[str, Callable[[Sequence[Line]], FloatArray]]
) -> dict[str, Figures] | None:
    """Returns how models of supernets that did not choose the networks rank them, against the end of long training."""
    longest = max((line["schedule_images"] for line in lines), default=0)
    final = scratch_rows(lines, longest, longest)
    if len(final) < MIN_TRAININGS:
        return None
    keys = sorted(final)
    ends = np.array([final[key]["error"] for key in keys])
    costs = np.array([key[0] for key in keys])
    found = {}
    for name, model in models.items():
        predicted = model([final[key] for key in keys])
        found[name] = {
            "tau": tau_estimate(predicted, ends), "tau_at_equal_cost": tau_estimate(predicted, ends, costs)
        }  # fmt: skip
    return found


def equal_seconds(
    inherited: Sequence[Line], scratch: Sequence[Line], speed: Mapping[str, float], supernet_images: int,
    model: Callable[[Sequence[Line], Sequence[Line]], FloatArray],
) -> Figures | None:  # fmt: skip
    """Returns how a supernet and proxies from scratch rank the networks that were trained long, in equal CPU seconds.

    For a number of trials, the supernet's seconds are its training and a score for each. The model is fitted to as many
    scores: the figure is the median over disjoint draws of them, and its interval their range. A proxy may then train
    each trial on as many images as take the same seconds. Two kinds are compared: the longest training within that
    whose own schedule ends there, as a search's proxy does, and the longest length scored on the way of the long ones.

    Args:
        inherited: Scores of one supernet, in random order.
        scratch: Trainings from scratch.
        speed: Images and scores a second, measured (see `plan.py`).
        supernet_images: Images that the supernet was trained on.
        model: Returns the predictions for lines (the second ones) by the additive model of scores (the first ones).
    """
    longest = max((line["schedule_images"] for line in scratch), default=0)
    final = scratch_rows(scratch, longest, longest)
    if len(final) < MIN_TRAININGS or len(inherited) < MIN_NETWORKS:
        return None
    keys = sorted(final)
    ends = np.array([final[key]["error"] for key in keys])
    costs = np.array([key[0] for key in keys])
    on_the_way = {line["images"] for line in scratch if line["schedule_images"] == longest}
    ended = {line["schedule_images"] for line in scratch} - {longest}
    result: Figures = {"n": len(keys), "trials": {}}
    for trials in TRIALS:
        seconds = supernet_images / speed["supernet_images_per_second"] + trials * speed["seconds_per_score"]
        images = seconds / trials * speed["scratch_images_per_second"]
        draws = [inherited[start : start + trials] for start in range(0, len(inherited) - trials + 1, trials)][:SPLITS]
        predicted = [model(draw, [final[key] for key in keys]) for draw in draws]
        entry: Figures = {"cpu_seconds": round(seconds), "images_per_proxy": round(images)}
        if predicted:
            entry["supernet"] = {
                "draws": len(draws),
                "tau": _over_draws([tau_b(each, ends) for each in predicted]),
                "tau_at_equal_cost": _over_draws([tau_b(each, ends, costs) for each in predicted]),
            }
        for kind, schedule, lengths in (("own_schedule", None, ended), ("on_the_way", longest, on_the_way)):
            within = max((length for length in lengths if length <= images), default=None)
            if within is not None:
                rows = scratch_rows(scratch, schedule, within)
                entry[kind] = {"length": within, **_length(rows, final)}
        result["trials"][str(trials)] = entry
    return result


def _over_draws(values: list[float]) -> Figures:
    median, least, most = _median_and_range(values)
    return {"value": median, "interval": [least, most]}


def precision_effect(lines: Sequence[Line]) -> Figures | None:
    """Returns tau between scores of short supernets in both precisions, and between two seeds."""
    by_case: dict[tuple[str, int, str], dict[int, float]] = {}
    for line in lines:
        case = line["trained_in"], line["seed"], line["scored_in"]
        by_case.setdefault(case, {})[line["number"]] = line["error"]

    def compared(one: tuple[str, int, str], other: tuple[str, int, str]) -> Figures | None:
        common = sorted(by_case.get(one, {}).keys() & by_case.get(other, {}).keys())
        if len(common) < MIN_TRAININGS:
            return None
        return tau_estimate(*(np.array([by_case[case][number] for number in common]) for case in (one, other)))

    base = ("bf16", 0, "bf16")
    result = {
        "scored in fp32": compared(base, ("bf16", 0, "fp32")),
        "trained and scored in fp32": compared(base, ("fp32", 0, "fp32")),
        "another seed": compared(base, ("bf16", 1, "bf16")),
    }
    return result if any(result.values()) else None
