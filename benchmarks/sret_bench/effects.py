"""What single kinds of choices say of the inherited errors, and what one more recursion is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.ranking.metrics import FloatArray, resamples
from benchmarks.sret_bench.figures import FOLDS, MIN_NETWORKS, Figures, estimate, r2
from benchmarks.sret_bench.tables import Line

RIDGE = 1.0
KINDS = "width", "heads", "blocks", "recursions", "loop", "groups", "nll", "nll_ratio", "mlp_ratio"


def kinds_of_effects(lines: Sequence[Line]) -> Figures | None:
    """Returns how much worse unseen networks are predicted without each kind of choice, and what a recursion gains.

    The model is linear in one indicator per stage, attribute and value, and in the logarithm of FLOPs and its square.
    """
    if len(lines) < MIN_NETWORKS:
        return None
    errors = np.array([line["error"] for line in lines])
    columns = indicator_columns(lines)
    logs = np.log([float(line["flops"]) for line in lines])
    logs = (logs - logs.mean()) / logs.std()
    costs = np.column_stack([logs, logs**2])
    drawn = resamples(len(lines))

    def explained(kinds: Sequence[str]) -> FloatArray:
        """Returns R2 in the networks themselves, then in their bootstrap samples."""
        wanted = [values for (_, kind, _), values in columns.items() if kind in kinds]
        predicted = _ridge_cross_validated(np.column_stack([costs, *wanted]), errors)
        return np.concatenate([r2(predicted, errors, np.ones((1, len(errors)))), r2(predicted, errors, drawn)])

    whole = explained(KINDS)
    lost = {kind: whole - explained([other for other in KINDS if other != kind]) for kind in KINDS}
    return {
        "n": len(lines),
        "r2": estimate(whole[0], whole[1:]),
        "lost_without": {kind: estimate(values[0], values[1:], 4) for kind, values in lost.items()},
        "recursions": recursion_effects(columns, errors),
    }


def indicator_columns(lines: Sequence[Line]) -> dict[tuple[int, str, str], FloatArray]:
    """Returns a 0/1 column for every stage, attribute and value, except for the first value of each attribute."""
    columns = {}
    for stage in range(len(lines[0]["architecture"]["stages"])):
        for kind in KINDS:
            values = [_choice(line["architecture"]["stages"][stage], kind) for line in lines]
            for value in sorted(set(values))[1:]:
                columns[stage, kind, value] = np.array([float(each == value) for each in values])
    return columns


def _choice(stage: Mapping[str, Any], kind: str) -> str:
    """Returns the value of an attribute; of groups those of the first recursion, as their number tells recursions."""
    return str(stage[kind][0] if kind == "groups" else stage[kind])


def recursion_effects(columns: Mapping[tuple[int, str, str], FloatArray], errors: FloatArray) -> Figures:
    """Returns by how much error changes with one recursion more in each stage, all other choices being equal.

    FLOPs are not held equal: it is what the recursion is worth together with the computation it takes.
    """
    names = list(columns)
    table = np.column_stack([np.ones(len(errors)), *columns.values()])
    drawn = resamples(len(errors))[:500]
    weights = np.array([_ridge(table, errors, counts) for counts in (np.ones(len(errors)), *drawn)])[:, 1:]

    def effect(stage: int, recursions: int) -> FloatArray:
        name = (stage, "recursions", str(recursions))
        return weights[:, names.index(name)] if name in names else np.zeros(len(weights))

    result = {}
    for stage in range(max(name[0] for name in names) + 1):
        for more in (2, 3):
            if (stage, "recursions", str(more)) in names:
                gain = effect(stage, more) - effect(stage, more - 1)
                result[f"stage {stage + 1}, {more} instead of {more - 1}"] = estimate(gain[0], gain[1:], 5)
    return result


def _ridge(table: FloatArray, values: FloatArray, counts: FloatArray) -> FloatArray:
    """Returns weights of a weighted ridge regression; the first column, of ones, is not shrunk."""
    penalty = np.full(table.shape[1], RIDGE)
    penalty[0] = 0.0
    weighted = table * counts[:, None]
    return np.asarray(np.linalg.solve(weighted.T @ table + np.diag(penalty), weighted.T @ values), dtype=np.float64)


def _ridge_cross_validated(table: FloatArray, values: FloatArray) -> FloatArray:
    with_ones = np.column_stack([np.ones(len(values)), table])
    folds = np.random.default_rng(0).permutation(len(values)) % FOLDS
    predicted = np.empty(len(values))
    for fold in range(FOLDS):
        known = (folds != fold).astype(float)
        predicted[folds == fold] = with_ones[folds == fold] @ _ridge(with_ones, values, known)
    return predicted
