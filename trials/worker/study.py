"""Trains one variant of a study on one seed, and scores its last weights on the test part.

The last weights, not those with the smallest validation error: a choice among epochs would favour variants whose errors
fluctuate. Equal seeds give equal orders and augmentations of the images, whatever the network, so that variants can be
compared seed by seed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import torch

from sret_nas.arch.cost import cost_of
from sret_nas.nn.model_directory import Preprocessing, read_model
from sret_nas.nn.network import SReT
from sret_nas.nn.operating_points import Depth, all_depths, equal_depths, full_depth, logits_at_depths, num_depths

from ..data.whole_images import IMAGENET_MEAN, IMAGENET_STD, WholeImages
from ..distributed.processes import Processes, process_group
from ..engines.jobs import StudyTrainingJob
from ..engines.results import DepthScore, EpochScore, StudyProbeResult, StudyTrainingResult
from ..training.classification_scores import ClassificationScores, ScoreCounts
from ..training.devices import device_name, device_of, peak_memory_mb
from ..training.distillation import Distillation, distillation_of
from ..training.full import LAST, MAX_EVALUATED, METRICS, FullTraining
from ..training.full_spec import FullSpec
from ..training.full_speed import expected_seconds_per_step
from ..training.image_batches import EvaluatedImages, evaluation_batches
from ..training.precision import choose_precision
from ..training.progress_note import ProgressNotes
from .context import WorkerContext

MAX_DEPTHS = 16
"""Depths up to which all are scored. Beyond, an equal number of recursions in all stages is."""


def run_study_training(job: StudyTrainingJob, context: WorkerContext) -> StudyTrainingResult | StudyProbeResult:
    """Trains a network in the job's directory, from its checkpoint if there is one, and scores it.

    Raises `UserError` if the images or the teacher are not there, and `DivergedError` if losses were not finite.
    """
    started = time.perf_counter()
    images = context.whole_images(job)
    precision = choose_precision(job.recipe.precision, device_of(job.device))
    spec = _spec(job, images, precision)
    with process_group(job.device) as processes:
        distillation = _distillation(job, spec, images, processes.device)
        if job.is_probe:
            return _probe(job, spec, images, processes, distillation, precision)
        training = FullTraining(Path(job.directory), spec, images, processes, None, distillation)
        training.run(None, ProgressNotes(Path(job.directory)))
        network, _ = read_model(Path(job.directory) / LAST)
        network = network.eval().to(processes.device)
        scores = _scores(network, training, images, _depths(job))
    counts, cost = training.state.counts, cost_of(job.arch)
    *_, full = scores
    return StudyTrainingResult(
        arch_id=job.arch.arch_id,
        flops=cost.flops,
        params=cost.params,
        error=1 - scores[full].accuracy,
        cross_entropy=scores[full].cross_entropy,
        test_images=scores[full].images,
        depths=[_depth_score(job, depth, score) for depth, score in scores.items()] if job.depths else [],
        epochs=_epochs(Path(job.directory)),
        steps=counts.steps,
        images=counts.images,
        skipped=counts.skipped,
        train_seconds=counts.seconds,
        seconds=time.perf_counter() - started,
        precision=precision,
        device=device_name(processes.device),
        peak_memory_mb=peak_memory_mb(processes.device),
    )


def _spec(job: StudyTrainingJob, images: WholeImages, precision: Literal["fp32", "bf16"]) -> FullSpec:
    recipe = job.recipe.model_copy(update={"precision": precision})
    channels: Literal[1, 3] = 1 if job.arch.channels == 1 else 3
    mean, std = images.mean_and_std(channels)
    if recipe.normalization == "imagenet" and channels == 3:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    preprocessing = Preprocessing(
        image_size=job.arch.image_size, mean=mean, std=std, interpolation=recipe.interpolation,
        crop_fraction=recipe.crop_fraction,
    )  # fmt: skip
    return FullSpec(
        arch=job.arch, recipe=recipe, schedule=job.depth_schedule, preprocessing=preprocessing, seed=job.seed,
        start={"from": "scratch"}, provenance={"study": Path(job.directory).parent.parent.name}, workers=0,
    )  # fmt: skip


def _distillation(
    job: StudyTrainingJob, spec: FullSpec, images: WholeImages, device: torch.device
) -> Distillation | None:
    return distillation_of(
        teacher=job.teacher, teacher_checkpoint=None, temperature=1.0, soft_labels=None, classes=job.arch.classes,
        images=images, recipe=spec.recipe, preprocessing=spec.preprocessing, device=device,
        hard_share=job.hard_share,
    )  # fmt: skip


def _probe(
    job: StudyTrainingJob, spec: FullSpec, images: WholeImages, processes: Processes,
    distillation: Distillation | None, precision: Literal["fp32", "bf16"],
) -> StudyProbeResult:  # fmt: skip
    """Times a few steps, whose weights are discarded. Writes nothing."""
    seconds = expected_seconds_per_step(spec, images, processes, distillation)
    training = FullTraining(Path(job.directory), spec, images, processes, None, distillation)
    return StudyProbeResult(
        seconds_per_step=seconds,
        steps=training.steps,
        images=training.steps * training.plan.batch_size,
        peak_memory_mb=peak_memory_mb(processes.device),
        precision=precision,
        device=device_name(processes.device),
    )


def _depths(job: StudyTrainingJob) -> list[Depth]:
    """Returns the depths to score, the full one last."""
    if not job.depths:
        return [full_depth(job.arch)]
    return all_depths(job.arch) if num_depths(job.arch) <= MAX_DEPTHS else equal_depths(job.arch)


@torch.inference_mode()
def _scores(
    network: SReT, training: FullTraining, images: WholeImages, depths: Sequence[Depth]
) -> dict[Depth, ClassificationScores]:
    """Returns the scores on the test part at several depths, whose passes share what they begin with."""
    part = EvaluatedImages(images.test, training.evaluation_transform, network.arch.channels)
    counts = {depth: ScoreCounts(network.arch.classes) for depth in depths}
    device = network.pos_embed.device
    with closing(evaluation_batches(part, range(len(part)), MAX_EVALUATED, workers=0)) as batches:
        for inputs, labels in batches:
            for depth, logits in logits_at_depths(network, inputs.to(device), depths).items():
                counts[depth].add(logits.float().cpu().numpy(), labels.numpy())
    return {depth: count.scores() for depth, count in counts.items()}


def _depth_score(job: StudyTrainingJob, depth: Depth, score: ClassificationScores) -> DepthScore:
    flops = cost_of(job.arch.with_max_recursions(depth)).flops
    return DepthScore(
        recursions=depth, flops=flops, error=score.error, cross_entropy=score.cross_entropy
    )  # fmt: skip


def _epochs(directory: Path) -> list[EpochScore]:
    """Returns what the training measured after its epochs."""
    epochs: list[dict[str, Any]] = [json.loads(line) for line in (directory / METRICS).read_text().splitlines()]
    return [
        EpochScore(
            epoch=epoch["epoch"],
            images=epoch["images"],
            train_loss=epoch["train_loss"],
            error=epoch["validation"]["error"],
            cross_entropy=epoch["validation"]["cross_entropy"],
            coefficients=epoch.get("residual_coefficients"),
        )
        for epoch in epochs
    ]
