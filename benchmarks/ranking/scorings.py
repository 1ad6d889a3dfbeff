"""Other ways to score the networks of the table with the weights of a supernet that is there already.

    python -m benchmarks.ranking.scorings --data path/to/cifar10

By more images, by other losses, with a head of their own, and after fine-tuning. Every way scores the same supernets,
so that it is compared on equal weights. Each result is a JSON line in results/ranking_scorings.jsonl; then
results/ranking_scorings.json and ranking_scorings.md are written, with `--report` those alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.ranking.run import SUPERNETS, header
from benchmarks.ranking.scorings_report import SCORINGS, USUAL, key_of, report
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
from benchmarks.recorded import Line, append, arguments, begin, images_of, read_lines
from trials.data import PreparedData

if TYPE_CHECKING:
    from torch import Tensor  # torch, which the report does not need

    from sret_nas.nn.network import SReT
    from sret_nas.nn.supernet import Supernet

SCORED = tuple(Run("balanced draws", seed, SECONDS) for seed in (0, 1))
"""Supernets as searches train them by default. What leads on the first is reported on the second."""
IMAGE_COUNTS = (1_000, SCORED_IMAGES, 10_000)
HEAD_IMAGES = 4_000
"""Training images on which heads, biases and temperatures of single networks are fitted."""
FITTING_STEPS = 50
HEAD_DECAY = 1e-3


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
    return any(line["way"] == way and key_of(line) == run.key[:3] for line in read_lines(SCORINGS))


def _record(run: Run, way: str, scored: Sequence[float], cpu_seconds: float) -> None:
    line = {
        "variant": run.variant, "seed": run.seed, "seconds": run.seconds, "way": way,
        "networks": [round(score, 6) for score in scored], "cpu_seconds": round(cpu_seconds / len(scored), 3),
    }  # fmt: skip
    append(SCORINGS, line)
    print(f"{run.name}: {way}", flush=True)


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
    from trials.worker.evaluate import fine_tune

    size = RECIPE["batch_size"]
    training = TrainingConfig(images=tuning.steps * size, batch_size=size, learning_rate=tuning.learning_rate)
    part = first_images(data.val, SCORED_IMAGES)
    scores, began = [], time.process_time()
    for arch in networks():
        network, _ = fine_tune(supernet, arch, data, training, trial_seed(0, arch.arch_id, "full"), "fp32")
        scores.append(score(network, part, SCORED_AT_ONCE))
    seconds = time.process_time() - began
    _record(run, f"error, {tuning.name}", [found.error for found in scores], seconds)
    _record(run, f"cross-entropy, {tuning.name}", [found.cross_entropy for found in scores], seconds)


def main() -> None:
    given = arguments(__doc__, "ranking", "trainings")
    if not given.report:
        data, data_dir = images_of(given, prepared)
        begin(SCORINGS, header(data, given.data))
        score_all(SCORED, given.work, data_dir, data)
    report()


if __name__ == "__main__":
    main()
