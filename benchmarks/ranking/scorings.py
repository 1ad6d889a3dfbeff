"""Other ways to score the networks of the table with the weights of a supernet that is there already.

    python -m benchmarks.ranking.scorings --data path/to/cifar10

By more images, by other losses, with a head of their own, and after fine-tuning. Every way scores the same supernets,
so that it is compared on equal weights. Each result is a JSON line in results/ranking_scorings.jsonl; then
results/ranking_scorings.json and ranking_scorings.md are written, with `--report` those alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.ranking.metrics import interval, resamples, tau_b, taus
from benchmarks.ranking.report import BINS, HINDSIGHT, Table
from benchmarks.ranking.run import SUPERNETS, TABLE, header
from benchmarks.ranking.setting import networks, prepared
from benchmarks.ranking.supernets import (
    RECIPE,
    SCORED_AT_ONCE,
    SCORED_IMAGES,
    SECONDS,
    Run,
    images_at_pace,
    trained_supernet,
)
from benchmarks.recorded import RESULTS, Line, append, arguments, begin, images_of, read_lines
from sret_nas.files import write_atomically
from trials.data import PreparedData

if TYPE_CHECKING:
    from torch import Tensor  # torch, which the report does not need

    from sret_nas.nn.network import SReT
    from sret_nas.nn.supernet import Supernet

SCORINGS = RESULTS / "ranking_scorings.jsonl"
SCORED = tuple(Run("balanced draws", seed, SECONDS) for seed in (0, 1))
"""Supernets as searches train them by default. What leads on the first is reported on the second."""
USUAL = f"error, {SCORED_IMAGES:,} images"
"""The way of the other tables."""
USUAL_ENTROPY = f"cross-entropy, {SCORED_IMAGES:,} images"
KEYS = ("variant", "seed", "seconds")
"""What names a supernet."""
IMAGE_COUNTS = (1_000, SCORED_IMAGES, 10_000)
HEAD_IMAGES = 4_000
"""Training images on which heads, biases and temperatures of single networks are fitted."""
FITTING_STEPS = 50
HEAD_DECAY = 1e-3
UNUSABLE = "leading slices"
"""A variant that ranks no better than chance."""
CORRECTED = ("single", "balanced draws")
"""Variants whose errors are corrected by trained networks."""
TRAINED_FOR_CORRECTION = 8
CORRECTIONS = 300
RIDGE = 0.3


@dataclass(frozen=True)
class FineTuning:
    """Training a network on from its inherited weights before it is scored, as `--fine-tune-images` does."""

    steps: int
    learning_rate: float

    @property
    def name(self) -> str:
        return f"{self.steps} steps at {self.learning_rate:g}"


FINE_TUNINGS = (
    FineTuning(32, 1.25e-3), FineTuning(8, 1.25e-3), FineTuning(128, 1.25e-3), FineTuning(32, 5e-3)
)  # fmt: skip
"""1.25e-3 is what searches take: a quarter of the rate of training from scratch, with its warm-up and decay."""


def score_all(runs: Sequence[Run], work: Path, data_dir: Path, data: PreparedData) -> None:
    """Scores supernets in all ways that the results lack, on one thread of this process: the longest ways last."""
    import torch

    from sret_nas.nn.supernet import Supernet

    torch.set_num_threads(1)
    supernets = {}
    for run in runs:
        images = images_at_pace(run, read_lines(SUPERNETS))
        assert images is not None, run  # the variant is on record
        supernets[run] = Supernet.load(trained_supernet(run, work, data_dir, images))[0].eval()
        if not _is_done(run, USUAL):
            _score_inherited(supernets[run], data, run)
    for tuning in FINE_TUNINGS:
        for run, supernet in supernets.items():
            if not _is_done(run, f"error, {tuning.name}"):
                _score_fine_tuned(supernet, data, tuning, run)


def _is_done(run: Run, way: str) -> bool:
    return any(line["way"] == way and _key(line) == run.key[:3] for line in read_lines(SCORINGS))


def _record(run: Run, way: str, scored: Sequence[float], cpu_seconds: float) -> None:
    line = {
        "variant": run.variant, "seed": run.seed, "seconds": run.seconds, "way": way,
        "networks": [round(score, 6) for score in scored], "cpu_seconds": round(cpu_seconds / len(scored), 3),
    }  # fmt: skip
    append(SCORINGS, line)
    print(f"{run.name}: {way}", flush=True)


def _key(line: Line) -> tuple[Any, ...]:
    return tuple(line[key] for key in KEYS)


def _score_inherited(supernet: Supernet, data: PreparedData, run: Run) -> None:
    """Scores that need no training, from one pass of every network over validation and training images."""
    from trials.training.train import first_images

    fitted_on = first_images(data.train, HEAD_IMAGES)
    ways: dict[str, list[float]] = {}
    seconds = np.zeros(2)
    for arch in networks():
        network = _calibrated(supernet.extract(arch), data)
        clock = [time.process_time()]
        seen = _seen_by_head(network, data.val)
        clock.append(time.process_time())
        seen_in_training = _seen_by_head(network, fitted_on)
        clock.append(time.process_time())
        seconds += np.diff(clock)
        for way, score in _scores_of(network, seen, data.val.labels, seen_in_training, fitted_on.labels).items():
            ways.setdefault(way, []).append(score)
    per_image = seconds[0] / len(data.val)
    for way, scored in ways.items():
        images = next((count for count in IMAGE_COUNTS if f"{count:,} images" in way), len(data.val))
        fitting = seconds[1] if way.startswith("own head") or "own bias" in way else 0.0
        _record(run, way, scored, per_image * images + fitting)


def _calibrated(network: SReT, data: PreparedData) -> SReT:
    from trials.training.train import recalibrate_batch_norm

    recalibrate_batch_norm(network, data.train, SCORED_AT_ONCE)
    return network.eval()


def _seen_by_head(network: SReT, part: Any) -> Tensor:
    """Returns what the head sees of every image, (images, D)."""
    import torch

    from trials.data import batches

    with torch.no_grad():
        return torch.cat(
            [
                network.forward_head(network.forward_features(images), pre_logits=True)
                for images, _ in batches(part, batch_size=SCORED_AT_ONCE)
            ]
        )


def _scores_of(network: SReT, seen: Tensor, labels: Any, seen_in_training: Tensor, training_labels: Any) -> Line:
    """Scores one network in every way without training; less is better in all."""
    import torch
    from torch.nn.functional import cross_entropy

    truth, training_truth = torch.tensor(labels).long(), torch.tensor(training_labels).long()
    with torch.no_grad():
        logits, training_logits = network.head(seen), network.head(seen_in_training)

    def error(of: Tensor, images: int | None = None) -> float:
        return float((of.argmax(1) != truth)[:images].double().mean())

    def entropy(of: Tensor, images: int | None = None) -> float:
        return float(cross_entropy(of[:images].double(), truth[:images]))

    probabilities = (logits.double() / 0.5).softmax(1)[torch.arange(len(truth)), truth]
    scaled = _fitted(training_logits, training_truth, logits, head=False)
    own = _fitted(seen_in_training, training_truth, seen, head=True)
    return {
        **{f"error, {count:,} images": error(logits, count) for count in IMAGE_COUNTS},
        **{f"cross-entropy, {count:,} images": entropy(logits, count) for count in IMAGE_COUNTS},
        "label-smoothed cross-entropy": float(cross_entropy(logits.double(), truth, label_smoothing=0.1)),
        "error of a softmax at half the temperature": 1 - float(probabilities.mean()),
        "error, own bias and temperature": error(scaled),
        "cross-entropy, own bias and temperature": entropy(scaled),
        "own head, error": error(own),
        "own head, cross-entropy": entropy(own),
    }


def _fitted(inputs: Tensor, labels: Tensor, applied_to: Tensor, head: bool) -> Tensor:
    """Returns logits of a linear head on standardised inputs, or of a bias and one temperature on logits, fitted by
    LBFGS."""
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    if head:
        mean, deviation = inputs.mean(0), inputs.std(0) + 1e-6
        inputs, applied_to = (inputs - mean) / deviation, (applied_to - mean) / deviation
        layer = nn.Linear(inputs.shape[1], int(labels.max()) + 1)
        nn.init.zeros_(layer.weight)
        weights = [layer.weight, layer.bias]
    else:
        weights = [torch.zeros(1, requires_grad=True), torch.zeros(inputs.shape[1], requires_grad=True)]
    nn.init.zeros_(weights[1])

    def logits_of(values: Tensor) -> Tensor:
        return values @ weights[0].T + weights[1] if head else values * weights[0].exp() + weights[1]

    optimizer = torch.optim.LBFGS(weights, max_iter=FITTING_STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = cross_entropy(logits_of(inputs), labels)
        if head:
            loss = loss + HEAD_DECAY * weights[0].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[arg-type]
    with torch.no_grad():
        return logits_of(applied_to)


def _score_fine_tuned(supernet: Supernet, data: PreparedData, tuning: FineTuning, run: Run) -> None:
    """Scores by error and cross-entropy, on the usual images, after the fine-tuning that trials of a search may do."""
    from trials.engines.jobs import trial_seed
    from trials.training.recipe import TrainingConfig
    from trials.training.train import first_images, score
    from trials.worker.evaluate import trained_on

    size = RECIPE["batch_size"]
    training = TrainingConfig(images=tuning.steps * size, batch_size=size, learning_rate=tuning.learning_rate)
    part = first_images(data.val, SCORED_IMAGES)
    scores, began = [], time.process_time()
    for arch in networks():
        network, _ = trained_on(supernet, arch, data, training, trial_seed(0, arch.arch_id, "full"), "fp32")
        scores.append(score(network, part, SCORED_AT_ONCE))
    seconds = time.process_time() - began
    _record(run, f"error, {tuning.name}", [found.error for found in scores], seconds)
    _record(run, f"cross-entropy, {tuning.name}", [found.cross_entropy for found in scores], seconds)


def figures(table: Table, lines: Sequence[Line]) -> dict[str, Any]:
    """Returns how every way ranks the table by its errors, for each supernet, and its lead over the usual one."""
    measured, bins, widths = table.measured("error"), table.bins, table.first_width
    samples = resamples(len(measured))
    groups = {"": None, "_in_bins": bins, "_in_widths": widths}
    rows = []
    for line in lines:
        scored = np.array(line["networks"])
        usual = next(
            np.array(other["networks"]) for other in lines if other["way"] == USUAL and _key(other) == _key(line)
        )
        row: dict[str, Any] = {
            **{key: line[key] for key in (*KEYS, "way", "cpu_seconds")},
            "mean": float(scored.mean()),
        }
        for name, inside in groups.items():
            drawn = taus(scored, measured, samples, inside)
            row |= {
                f"tau{name}": tau_b(scored, measured, inside),
                f"tau{name}_interval": interval(drawn),
                f"lead{name}_interval": interval(drawn - taus(usual, measured, samples, inside)),
            }
        rows.append(row)
    return {"ways": rows, "hindsight_tau": tau_b(-widths.astype(np.float64), measured)}


def agreement(table: Table, supernets: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns how well the first two supernets of a variant agree inside widths, and their mean with the truth."""
    by_key: dict[tuple[str, int], list[Line]] = {}
    for line in sorted(supernets, key=lambda line: int(line["seed"])):
        if line.get("flops_max") is None:
            by_key.setdefault((line["variant"], line["seconds"]), []).append(line)
    found = []
    for (variant, seconds), lines in by_key.items():
        if len(lines) < 2:
            continue
        row: dict[str, Any] = {"variant": variant, "seconds": seconds, "seeds": [line["seed"] for line in lines[:2]]}
        for metric in ("error", "cross_entropy"):
            first, second = (np.array([network[metric] for network in line["networks"]]) for line in lines[:2])
            row[f"{metric}_agreement"] = tau_b(first, second, table.first_width)
            row[f"{metric}_truth"] = tau_b(first + second, table.measured("error"), table.first_width)
        found.append(row)
    return found


def as_supernets(lines: Sequence[Line]) -> list[Line]:
    """Returns the supernets that were scored here, each as a line of the other tables: trainings of their own."""
    ways = {(*_key(line), line["way"]): line["networks"] for line in lines}
    return [
        {
            **dict(zip(KEYS, key, strict=True)),
            "networks": [
                {"error": error, "cross_entropy": entropy}
                for error, entropy in zip(ways[*key, USUAL], ways[*key, USUAL_ENTROPY], strict=True)
            ],
        }
        for key in dict.fromkeys(_key(line) for line in lines)
    ]


def error_or_entropy(table: Table, supernets: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns the mean taus of inherited errors, and of inherited cross-entropies, with the errors of the table, by
    seconds.

    The lead of cross-entropy has an interval of a bootstrap over networks: all supernets rank the same ones.
    """
    measured, samples = table.measured("error"), resamples(len(table.trainings))
    groups = {"tau": None, "tau_in_bins": table.bins, "tau_in_widths": table.first_width}
    whole = [line for line in supernets if line.get("flops_max") is None and line["variant"] != UNUSABLE]
    found = []
    for seconds in sorted({line["seconds"] for line in whole}):
        lines = [line for line in whole if line["seconds"] == seconds]
        row: dict[str, Any] = {"seconds": seconds, "supernets": len(lines)}
        for name, inside in groups.items():
            drawn = {}
            for metric in ("error", "cross_entropy"):
                rows = [np.array([network[metric] for network in line["networks"]]) for line in lines]
                row[f"{metric}_{name}"] = float(np.mean([tau_b(scored, measured, inside) for scored in rows]))
                drawn[metric] = np.mean([taus(scored, measured, samples, inside) for scored in rows], axis=0)
            row[f"lead_{name}_interval"] = interval(drawn["cross_entropy"] - drawn["error"])
        found.append(row)
    return found


def corrected(table: Table, supernets: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns what inherited errors rank when a few networks of the table, trained by themselves, correct them.

    A ridge regression of their errors, on the inherited error alone or with width and FLOPs as well, predicts the
    others: mean taus of those others, over draws of which are trained.
    """
    measured, widths, bins = table.measured("error"), table.first_width, table.bins
    slopes = {"width of stage 1": widths.astype(np.float64), "FLOPs": np.log(table.cost("flops"))}
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(measured)) for _ in range(CORRECTIONS)]
    found = []
    for line in supernets:
        if line.get("flops_max") is not None or line["variant"] not in CORRECTED:
            continue
        inherited = {"inherited error": np.array([network["error"] for network in line["networks"]])}
        for columns in (inherited, {**inherited, **slopes}, slopes):
            features = np.stack([(column - column.mean()) / column.std() for column in columns.values()], axis=1)
            features = np.insert(features, 0, 1, axis=1)
            drawn = []
            for order in orders:
                trained, left = order[:TRAINED_FOR_CORRECTION], order[TRAINED_FOR_CORRECTION:]
                penalty = RIDGE * np.diag([0.0] + [1.0] * len(columns))
                gram = features[trained].T @ features[trained] + penalty
                predicted = features[left] @ np.linalg.solve(gram, features[trained].T @ measured[trained])
                drawn.append([tau_b(predicted, measured[left], of) for of in (None, bins[left], widths[left])])
            mean = np.nanmean(drawn, axis=0).tolist()
            names = ("tau", "tau_in_bins", "tau_in_widths")
            key = {name: line[name] for name in KEYS}
            found.append({**key, "columns": list(columns), **dict(zip(names, mean, strict=True))})
    return found


NOTES = (
    "- Each way scores the same supernets. **Tau** is Kendall's tau-b with the errors of the table; **in bins**:",
    f"  inside {BINS} bins of FLOPs; **in widths**: among networks whose first stages are equally wide. 95 % intervals",
    "  are of a bootstrap over networks.",
    f"- **Lead in widths**: the interval of the difference to the usual way, {USUAL}, on the same samples.",
    "- **CPU s** is of one network on a machine that was busy with other things; fine-tuning counts with its score.",
    "- A way that leads beyond its interval on seed 0 is reported on seed 1.",
)


def markdown(result: dict[str, Any]) -> str:
    """Returns the report."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        "# Ways to score networks with inherited weights",
        "",
        f"`python -m benchmarks.ranking.scorings`, {result['date']}, {result['cores']} cores, {versions}.",
        "",
        *NOTES,
        f"- {HINDSIGHT.capitalize()} has tau {result['hindsight_tau']:.2f} over all.",
    ]
    for key in dict.fromkeys(_key(row) for row in result["ways"]):
        lines += [
            "", f"## {key[0].capitalize()}, {key[2]} s, seed {key[1]}", "",
            "| scored by | CPU s | tau | in bins | in widths | lead in widths | mean |",
            f"{'| --- ' * 7}|",
            *(_row(row) for row in result["ways"] if _key(row) == key),
        ]  # fmt: skip
    lines += [
        "", "## Do two supernets agree inside widths?", "",
        "Of two supernets of the same variant: tau inside widths between them, and of their mean with the table.",
        "Of equal seeds, one is of the other tables and one was trained here: on another machine, by a later version.",
        "",
        "| variant | s | seeds | error: agree | with the truth | cross-entropy: agree | with the truth |",
        f"{'| --- ' * 7}|",
        *(
            f"| {row['variant']} | {row['seconds']} | {', '.join(map(str, row['seeds']))} "
            f"| {row['error_agreement']:.2f} | {row['error_truth']:.2f} "
            f"| {row['cross_entropy_agreement']:.2f} | {row['cross_entropy_truth']:.2f} |"
            for row in result["agreement"]
        ),
    ]  # fmt: skip
    lines += [
        "", "## Error or cross-entropy?", "",
        f"Means over all supernets of the other tables but {UNUSABLE}. The lead of cross-entropy is an interval of a",
        "bootstrap over networks.",
        "",
        "| s | supernets | tau: error | cross-entropy | lead | in bins: error | cross-entropy | lead "
        "| in widths: error | cross-entropy | lead |",
        f"{'| --- ' * 11}|",
        *(
            f"| {row['seconds']} | {row['supernets']} | "
            + " | ".join(
                f"{row[f'error_{name}']:.2f} | {row[f'cross_entropy_{name}']:.2f} "
                f"| {row[f'lead_{name}_interval'][0]:.2f} to {row[f'lead_{name}_interval'][1]:.2f}"
                for name in ("tau", "tau_in_bins", "tau_in_widths")
            )
            + " |"
            for row in result["error_or_entropy"]
        ),
    ]  # fmt: skip
    lines += [
        "", "## Do trained networks correct inherited errors?", "",
        f"A ridge regression on {TRAINED_FOR_CORRECTION} networks that were trained by themselves predicts the others; "
        f"means over {CORRECTIONS} draws",
        "of these networks. Their own trainings are not counted in the supernet's seconds.",
        "",
        "| variant | s | seed | predicted from | tau | in bins | in widths |",
        f"{'| --- ' * 7}|",
        *(
            f"| {row['variant']} | {row['seconds']} | {row['seed']} | {', '.join(row['columns'])} "
            f"| {row['tau']:.2f} | {row['tau_in_bins']:.2f} | {row['tau_in_widths']:.2f} |"
            for row in result["corrected"]
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    def tau(name: str) -> str:
        low, high = row[f"tau{name}_interval"]
        return f"{row[f'tau{name}']:.2f} ({low:.2f} to {high:.2f})"

    low, high = row["lead_in_widths_interval"]
    return (
        f"| {row['way']} | {row['cpu_seconds']:.2f} | {tau('')} | {tau('_in_bins')} | {tau('_in_widths')} "
        f"| {low:.2f} to {high:.2f} | {row['mean']:.4f} |"
    )


def report() -> None:
    """Writes the report, from the committed results alone."""
    table = Table.of(read_lines(TABLE))
    result = {
        **describe_machine("torch", "numpy"),
        **figures(table, read_lines(SCORINGS)),
        "agreement": agreement(table, [*read_lines(SUPERNETS), *as_supernets(read_lines(SCORINGS))]),
        "error_or_entropy": error_or_entropy(table, read_lines(SUPERNETS)),
        "corrected": corrected(table, read_lines(SUPERNETS)),
    }
    write_atomically(RESULTS / "ranking_scorings.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / "ranking_scorings.md", markdown(result))


def main() -> None:
    given = arguments(__doc__, "ranking", "trainings")
    if not given.report:
        data, data_dir = images_of(given, prepared)
        begin(SCORINGS, header(data, given.data))
        score_all(SCORED, given.work, data_dir, data)
    report()


if __name__ == "__main__":
    main()
