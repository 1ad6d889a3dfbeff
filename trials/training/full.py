"""Trains one network whole: from its initial weights or a checkpoint to model directories of the best and last weights.

The parts are timm's: augmentation, mixing, optimisers, schedules, moving average, loss. The mixed-depth schedule, drop
path over applications and the stem's statistics are this project's.

DistributedDataParallel does not fit several processes: a step makes a pass for each recursion depth, and shallow passes
leave weights of deeper recursions without a gradient. So each process averages its gradients with those of the others
once per step, as in a supernet's training. All run the same depths, so the same weights have gradients everywhere.
"""

from __future__ import annotations

import copy
import json
import math
import random
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.utils.data import Dataset

from sret_nas.arch.cost import cost_of
from sret_nas.files import write_atomically
from sret_nas.nn.model_directory import ModelInfo, put_back
from sret_nas.nn.network import SReT
from sret_nas.plurals import counted

from ..console import Console
from ..data.whole_images import WholeImages, padded_names
from ..interruption import StepAborted, defer_interrupts
from ..lost_directory import WatchedDirectory, rescue
from ..seeds import seed_from
from .augmentation import Mixing, evaluation_transform, training_transform
from .classification_scores import ClassificationScores
from .depth_schedule import depths_of_step
from .devices import device_memory
from .distillation import Distillation
from .full_models import write_trained
from .full_progress import FullProgress
from .full_spec import FullSpec, Group, plan_of
from .full_state import CHECKPOINT, FullState
from .image_batches import AugmentedImages, EvaluatedImages, evaluation_batches, training_microbatches
from .initial_weights import InitialWeights, load_initial
from .losses import smoothed_probabilities
from .memory import require_memory
from .network_scores import count_scores, metrics_of
from .progress_note import ProgressNote, ProgressNotes
from .recipe import DivergedError
from .train import recalibrate_stem

BEST, LAST, METRICS = "best", "last", "metrics.jsonl"

CHECKPOINT_SECONDS = 60.0
"""Between two checkpoints, the most work that a killed process loses."""

MAX_SKIPPED = 10
"""Steps in a row without a finite loss or gradient after which a training fails."""

MAX_COEFFICIENTS = 512
"""Coefficients of residual connections in a line of the metrics, which a checkpoint holds too. SReT-T has 80, a network
of 108 block applications 432; networks with more than this have them in TensorBoard alone."""

MAX_EVALUATED = 256
"""Images of a batch in evaluation."""


class FullTraining:
    """The loop of a whole training, with validation, checkpoints and model directories."""

    def __init__(
        self, directory: Path, spec: FullSpec, images: WholeImages, group: Group, initial: InitialWeights | None,
        distillation: Distillation | None = None,
    ) -> None:  # fmt: skip
        """Builds the network and everything that trains it. Seeds torch's global generator.

        Args:
            directory: for checkpoints, metrics and model directories.
            spec: the training.
            images: of all parts.
            group: the processes that train.
            initial: the first weights; None for new ones.
            distillation: the labels of a teacher; None for the images' classes.

        Raises `UserError` if the processes cannot share the batches, or the weights do not fit into memory.
        """
        self._directory, self._spec, self._images, self._group = directory, spec, images, group
        recipe, train = spec.recipe, images.train
        self._distillation = distillation
        self.plan = plan_of(recipe, len(train), spec.seed, group.world_size)
        if distillation is not None:
            self.plan = replace(self.plan, distinct_epochs=distillation.distinct_epochs)
        self.steps = recipe.epochs * self.plan.steps_per_epoch
        self._mixing = Mixing(recipe, spec.arch.classes, spec.seed)
        transform = training_transform(recipe, spec.preprocessing, images.flip)
        stored_seed = None if distillation is None else distillation.seed_of_views
        seed = spec.seed if stored_seed is None else stored_seed
        augmented = AugmentedImages(train, transform, spec.arch.channels, seed)
        self._train: Dataset[Any] = augmented
        if distillation is not None:
            self._train = distillation.labelled(augmented, images, spec.preprocessing, spec.seed)
        self.evaluation_transform = evaluation_transform(spec.preprocessing)
        num_params = cost_of(spec.arch).params
        require_memory(num_params, device_memory(group.device), f"network {spec.arch.arch_id}", "train a smaller one")
        torch.manual_seed(seed_from(f"weights {spec.seed}"))
        network = SReT(spec.arch)
        names = padded_names(images.class_names, spec.arch.classes)
        self.changes = [] if initial is None else load_initial(network, initial, names)
        self._format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        network = network.to(group.device, memory_format=self._format)  # type: ignore[call-overload]
        temperature = None if distillation is None else distillation.temperature
        self.state = FullState(network, recipe, self.plan.batch_size, self.plan.steps_per_epoch, temperature)
        self._parameters = list(network.parameters())
        on_gpu = group.device.type == "cuda"
        self._uses_bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and on_gpu)
        self._watched: WatchedDirectory | None = None
        self._identity: dict[str, JsonValue] = {}

    def run(self, console: Console | None, notes: ProgressNotes | None = None) -> dict[str, Any]:
        """Runs the remaining steps, then tests the best network once. Returns the metrics.

        Writes a checkpoint every `CHECKPOINT_SECONDS`, after every validation, and on Ctrl-C.

        Args:
            console: for progress; None shows nothing, and writes no scalars for TensorBoard.
            notes: of how far it is, for a process that waits; None takes none.

        Raises:
            UserError: The directory's checkpoint is of another training, or an image cannot be read.
            DivergedError: Losses were not finite for `MAX_SKIPPED` steps in a row, or a score is not finite.
            LostDirectoryError: The directory was deleted, moved or replaced.
            KeyboardInterrupt: Interrupted, after a checkpoint.
        """
        labels: JsonValue = None if self._distillation is None else self._distillation.identity
        self._identity = {**self._spec.identity(self._images), "labels": labels}
        if self._group.is_first:
            self._watched = WatchedDirectory(self._directory)
            for name in (BEST, LAST):
                put_back(self._directory / name)
        is_resumed = self.state.load(self._directory / CHECKPOINT, self._identity)
        shown = self._directory if self._group.is_first and console is not None else None
        quiet = Console(quiet=True) if console is None else console
        progress = FullProgress(shown, self.state.counts, self.steps, self.plan.steps_per_epoch, quiet)
        with progress, defer_interrupts() as interruptions:
            if self._group.is_first and not is_resumed and (self._directory / METRICS).is_file():
                progress.say(
                    f"note: {self._directory} has no {CHECKPOINT}: the training starts again from its first step"
                )
            if self._group.is_first and self.state.counts.steps < self.steps:
                self.state.forget_lost_best(self._directory / BEST, progress.say)
            try:
                self._run_steps(progress, interruptions, notes)
            except StepAborted:  # the step is half done, and no checkpoint may hold its weights
                raise
            except KeyboardInterrupt:  # raised between two steps, so the weights are consistent
                self._save()
                raise
            return self._finish(progress)

    def _run_steps(self, progress: FullProgress, interruptions: list[int], notes: ProgressNotes | None) -> None:
        with closing(self.microbatches(range(self.state.counts.steps, self.steps))) as stream:
            self._run_steps_on(stream, progress, interruptions, notes)

    def _run_steps_on(
        self, stream: Iterator[tuple[Tensor, Tensor]], progress: FullProgress, interruptions: list[int],
        notes: ProgressNotes | None,
    ) -> None:  # fmt: skip
        counts = self.state.counts
        saved = time.monotonic()
        while True:
            if self._validation_is_due():
                self._validate(progress)
                self._save()
                saved = time.monotonic()
            # All processes must stop after the same step, or those that go on would wait for the others for ever.
            if self._group.any(bool(interruptions)):
                raise KeyboardInterrupt
            if counts.steps == self.steps:
                return
            loss = self.train_step(stream)
            progress.step_done(loss, self.state.learning_rate)
            if notes is not None and notes.is_due:
                self._require_directory()
                notes.write(ProgressNote(counts.steps, self.steps))
            if self._group.any(time.monotonic() - saved > CHECKPOINT_SECONDS):
                self._save()
                saved = time.monotonic()

    def microbatches(self, steps: range) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Returns the microbatches of the steps that this process computes, one after the other."""
        accumulation, rank = self._spec.recipe.gradient_accumulation, self._group.rank
        numbers = range(rank * accumulation, (rank + 1) * accumulation)
        pin = self._group.device.type == "cuda"
        return training_microbatches(self._train, self.plan, numbers, steps, workers=self._spec.workers, pin=pin)

    def train_step(self, stream: Iterator[tuple[Tensor, Tensor]]) -> float | None:
        """Takes the next step. Returns the loss, or None if it was skipped.

        Raises `DivergedError` if `MAX_SKIPPED` steps in a row were skipped.
        """
        started = time.perf_counter()
        state, recipe = self.state, self._spec.recipe
        counts = state.counts
        step = counts.steps
        depths = self._depths(step)
        state.scheduler.step_update(step)
        state.network.train()
        state.optimizer.zero_grad(set_to_none=True)  # the optimiser skips weights whose gradient is None
        total = torch.zeros((), device=self._group.device)
        for position in range(recipe.gradient_accumulation):
            total += self._gradients(*next(stream), step, position, depths)
        used = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        self._group.average([*used, total])
        norm = nn.utils.clip_grad_norm_(self._parameters, recipe.clip_norm or math.inf)
        # Both numbers at once, because each transfer from a GPU waits for all its work.
        loss, norm_value = torch.stack((total, norm)).tolist()
        is_finite = math.isfinite(loss) and math.isfinite(norm_value)
        counts.steps += 1
        counts.images += self.plan.batch_size
        if is_finite:
            state.optimizer.step()
            state.task.update_ema(step=step + 1)
            counts.loss_sum += loss
            counts.loss_steps += 1
        counts.skipped += not is_finite
        counts.skipped_in_a_row = 0 if is_finite else counts.skipped_in_a_row + 1
        counts.seconds += time.perf_counter() - started
        if counts.skipped_in_a_row >= MAX_SKIPPED:
            raise DivergedError(
                f"the loss or a gradient was not finite in {MAX_SKIPPED} steps in a row, up to step {step + 1} of "
                f"{self.steps}, at a learning rate of {state.learning_rate:.3g}: lower --learning-rate"
            )
        return loss if is_finite else None

    def _depths(self, step: int) -> tuple[int, ...]:
        rng = random.Random(f"depths {self._spec.seed} {step}")
        return depths_of_step(self._spec.schedule, self._spec.arch.max_recursions, step / self.steps, rng)

    def _gradients(self, images: Tensor, labels: Tensor, step: int, position: int, depths: tuple[int, ...]) -> Tensor:
        """Adds the gradients of a microbatch, and returns its contribution to the loss of the batch."""
        accumulation, device = self._spec.recipe.gradient_accumulation, self._group.device
        number = self._group.rank * accumulation + position
        images, targets = self._mixing(images, labels, step, number)
        images = images.to(device, non_blocking=True).to(memory_format=self._format)
        targets = self._taught(images, targets.to(device, non_blocking=True))
        torch.manual_seed(seed_from(f"pass {self._spec.seed}/{step}/{number}"))  # permutations and drop path
        contribution = torch.zeros((), device=device)
        teaches = self._spec.recipe.depth_distillation
        deepest: Tensor | None = None
        for depth in reversed(depths) if teaches else depths:
            with torch.autocast(device.type, torch.bfloat16, enabled=self._uses_bf16):
                passed = self.state.task(images, targets, depth, deepest)
                loss = passed["loss"] / (len(depths) * accumulation)
            # Backward for each depth by itself: the activations of one depth at a time are in memory.
            loss.backward()
            contribution += loss.detach()
            if teaches and deepest is None:
                deepest = passed["output"].detach()
        return contribution

    def _taught(self, images: Tensor, targets: Tensor) -> Tensor:
        """Returns what the teacher says of a batch's images, or the targets as they are if there is none."""
        if self._distillation is None or self._distillation.teacher is None:
            return targets
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._uses_bf16):
            taught: Tensor = self._distillation.teacher(images, self._distillation.temperature)
        share = self._distillation.hard_share
        if share == 0:
            return taught
        classes = smoothed_probabilities(targets, self._spec.arch.classes, self._spec.recipe.label_smoothing)
        return torch.lerp(taught.float(), classes, share)

    def _validation_is_due(self) -> bool:
        epoch, rest = divmod(self.state.counts.steps, self.plan.steps_per_epoch)
        recipe = self._spec.recipe
        is_counted = epoch % recipe.validate_every == 0 or epoch == recipe.epochs
        return rest == 0 and epoch > self.state.counts.validated_epochs and is_counted

    def _validate(self, progress: FullProgress) -> None:
        """Scores the network on the validation part, writes model directories and metrics, and tells."""
        counts = self.state.counts
        epoch = counts.steps // self.plan.steps_per_epoch
        network = self.for_evaluation()
        score = self._finite_score(network, "val")
        loss = counts.loss_sum / counts.loss_steps if counts.loss_steps else None
        is_best = counts.best_error is None or score.error < counts.best_error
        if is_best:
            counts.best_error, counts.best_epoch = score.error, epoch
        counts.validated_epochs, counts.loss_sum, counts.loss_steps = epoch, 0.0, 0
        coefficients = network.residual_coefficients()
        in_line = {name: round(value, 5) for name, value in coefficients.items()}
        counts.epochs.append(
            {
                "epoch": epoch, "step": counts.steps, "train_loss": loss,
                "validation": metrics_of(score), "learning_rate": self.state.learning_rate,
                "skipped_steps": counts.skipped, "images": counts.images, "seconds": round(counts.seconds, 3),
                **({"residual_coefficients": in_line} if 0 < len(in_line) <= MAX_COEFFICIENTS else {}),
            }
        )  # fmt: skip
        if self._group.is_first:
            self._require_directory()
            metrics = {"validation": {**metrics_of(score), "epoch": epoch}}
            for name in (LAST, *([BEST] if is_best else [])):
                self._write_model(name, network, metrics, progress)
            self._write_metrics()
        shown = {"validation/error": score.error, "validation/cross_entropy": score.cross_entropy}
        shown |= {f"residual/{name}": value for name, value in coefficients.items()}
        text = f"val error {score.error:.2%}, cross-entropy {score.cross_entropy:.3f}" + (" (best)" if is_best else "")
        progress.validated(epoch, shown, text if loss is None else f"train loss {loss:.3f}, {text}")

    def _finish(self, progress: FullProgress) -> dict[str, Any]:
        """Tests the best network on the test part, adds the result to its directory, and returns all metrics."""
        counts = self.state.counts
        # Only the first process has the directory: on Ray, the others may be on other machines.
        is_first = self._group.is_first
        network, info = self.state.read_best(self._directory / BEST) if is_first else (SReT(self._spec.arch), None)
        network = network.to(self._group.device)
        self._group.broadcast(list(network.state_dict().values()))
        score = self._finite_score(network, "test")
        if info is None:
            return {"test": metrics_of(score)}
        metrics = {**info.metrics, "test": metrics_of(score)}
        self._require_directory()
        write_trained(self._directory / BEST, network.cpu(), replace(info, metrics=metrics), progress.say)
        progress.say(
            f"best: epoch {counts.best_epoch}, val error {metrics['validation']['error']:.2%}, test error "
            f"{score.error:.2%} on {counted(score.images, 'image')}"
        )
        return metrics

    def for_evaluation(self) -> SReT:
        """Returns a copy of the network that is kept, ready for evaluation, with new BatchNorm statistics."""
        network = copy.deepcopy(self.state.evaluated).eval()
        count = min(self._spec.recipe.recalibration_images, len(self._images.train))
        if count > 1:
            part = EvaluatedImages(self._images.train, self.evaluation_transform, self._spec.arch.channels)
            batches = evaluation_batches(part, range(count), self._evaluation_batch, workers=self._spec.workers)
            with closing(batches):
                recalibrate_stem(network, (images for images, _ in batches))
        return network

    def score(self, network: SReT, part: str) -> ClassificationScores:
        """Scores a network on all images of a part, shared by the processes."""
        images = EvaluatedImages(self._images.parts[part], self.evaluation_transform, self._spec.arch.channels)
        positions = range(self._group.rank, len(images), self._group.world_size)
        batches = evaluation_batches(images, positions, self._evaluation_batch, workers=self._spec.workers)
        with closing(batches):
            counts = count_scores(network, batches)
        means = torch.from_numpy(counts.sums).to(self._group.device)
        self._group.average([means])
        counts.sums = (means * self._group.world_size).cpu().numpy()
        return counts.scores()

    def _finite_score(self, network: SReT, part: str) -> ClassificationScores:
        """Scores a network on a part. Raises `DivergedError`, in all processes, for a score that no resume can read."""
        score = self.score(network, part)
        if not math.isfinite(score.cross_entropy):
            raise DivergedError(
                f"the {part} cross-entropy is {score.cross_entropy} after step {self.state.counts.steps} of "
                f"{self.steps}: lower --learning-rate"
            )
        return score

    @property
    def _evaluation_batch(self) -> int:
        return min(MAX_EVALUATED, self.plan.batch_size)

    def _write_model(self, name: str, network: SReT, metrics: dict[str, Any], progress: FullProgress) -> None:
        spec = self._spec
        info = ModelInfo(
            preprocessing=spec.preprocessing,
            class_names=padded_names(self._images.class_names, spec.arch.classes),
            metrics=metrics,
            recipe={**spec.recipe.model_dump(mode="json"), "depth_schedule": spec.schedule},
            provenance={**spec.provenance, "seed": spec.seed, "data_digest": self._images.digest},
        )
        write_trained(self._directory / name, copy.deepcopy(network).cpu(), info, progress.say)

    def _write_metrics(self) -> None:
        lines = [json.dumps(epoch) + "\n" for epoch in self.state.counts.epochs]
        write_atomically(self._directory / METRICS, "".join(lines))

    def _save(self) -> None:
        if self._group.is_first:
            self._require_directory()
            self.state.save(self._directory / CHECKPOINT, self._identity)

    def _require_directory(self) -> None:
        """Raises `LostDirectoryError`, after a checkpoint beside it, if the directory is not there any more."""
        if self._watched is not None and self._watched.is_lost:
            raise rescue(self._directory, lambda folder: self.state.save(folder / CHECKPOINT, self._identity))
