"""Data that a worker keeps between jobs: images, a supernet, the features of scored subnets, a movable network.

The context belongs to a worker (`trials.worker.entry.JobRunner`) and ends with it. It holds only the last object of
each kind, because a search has one data set and one supernet, and both are large.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

import torch

from sret_nas.errors import UserError
from sret_nas.files import digest_of_file
from sret_nas.nn.directions import MovableNetwork
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet

from ..data import PreparedData
from ..data.prepared import ImagesChangedError
from ..data.whole_images import WholeImages
from ..engines.jobs import (
    FrontTestJob,
    LandscapeJob,
    RetrainJob,
    SpeedJob,
    StudyTrainingJob,
    SupernetSource,
    SupernetSpeedJob,
    TrialJob,
)
from ..supernet.inherit import SubnetScorer
from ..training.devices import device_of
from ..training.landscape_images import LandscapeImages
from ..training.prepared_labels import PreparedLabels
from ..training.recipe import Precision

Value = TypeVar("Value")

MAX_VERIFIED_BYTES = 2**30
"""Images that a worker reads as a whole when it opens them, within a second; larger ones only the driver verifies."""


class _LastUsed(Generic[Value]):
    """A cache of one value."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._value: Value | None = None

    @property
    def value(self) -> Value | None:
        """The value that is kept, if there is one."""
        return self._value

    def forget(self) -> None:
        """Lets the value go."""
        self._key = self._value = None

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Returns the value of a key. Releases the last value before making another: memory never holds two."""
        if self._value is None or self._key != key:
            self._value = None
            self._key, self._value = key, make()
        return self._value


class WorkerContext:
    """The images, the supernet and the scorer that a worker has used last."""

    def __init__(self) -> None:
        self._data = _LastUsed[PreparedData]()
        self._supernet = _LastUsed[Supernet]()
        self._scorer = _LastUsed[SubnetScorer]()
        self._landscape_images = _LastUsed[LandscapeImages]()
        self._movable = _LastUsed[MovableNetwork]()
        self._whole_images = _LastUsed[WholeImages]()
        self._soft_labels = _LastUsed[PreparedLabels]()

    def data_of(self, job: TrialJob | FrontTestJob | RetrainJob | SpeedJob | SupernetSpeedJob) -> PreparedData:
        """Returns a job's images.

        Raises `UserError` if the search began with others, `ImagesChangedError` if they are damaged.
        """
        data = self._data.get(
            (job.data_dir, job.balanced_error), lambda: _open_images(Path(job.data_dir), job.balanced_error)
        )
        if data.digest != job.data_digest:
            raise UserError(f"the prepared images in {job.data_dir} are not those that the search was begun with")
        return data

    def labels_of(self, job: TrialJob | RetrainJob | SpeedJob, data: PreparedData) -> PreparedLabels | None:
        """Returns a job's stored soft labels; None for the classes of its images.

        Raises `UserError` if the file is not on this machine, has changed, or holds labels of other images.
        """
        source = job.soft_labels
        if source is None:
            return None
        return self._soft_labels.get((source, data.digest), lambda: source.open(data))

    def whole_images(self, job: StudyTrainingJob) -> WholeImages:
        """Returns a study's images. Raises `UserError` if it was begun with others."""
        images = self._whole_images.get(job.data, lambda: WholeImages.find(job.data).in_memory())
        if images.digest != job.data_digest:
            raise UserError(f"the images of {job.data.source} are not those that the study was begun with")
        return images

    def forget_changed_images(self) -> None:
        """Has the next job open its images anew where those of the last job have changed since."""
        data = self._data.value
        try:
            if data is not None:
                data.require_unchanged()
        except ImagesChangedError:
            self._data.forget()
            self._scorer.forget()

    def supernet(self, source: SupernetSource, device: torch.device) -> Supernet:
        """Returns the supernet in a file, on a device. Raises `UserError` if the file has changed meanwhile."""
        return self._supernet.get((source, device), lambda: _open_supernet(source, device))

    def landscape_images(self, job: LandscapeJob) -> LandscapeImages:
        """Returns the images of a landscape. Raises `UserError` if they have changed since it was begun."""
        key = (job.data_dir, job.data_digest)
        return self._landscape_images.get(key, lambda: LandscapeImages.open(Path(job.data_dir), job.data_digest))

    def movable_network(self, job: LandscapeJob) -> MovableNetwork:
        """Returns the network of a landscape with both directions. Raises `UserError` if its file has changed."""
        device = device_of(job.device)
        key = (job.network, job.directions, device)
        return self._movable.get(key, lambda: _open_movable(job, device))

    def scorer(
        self, source: SupernetSource, data: PreparedData, device: torch.device, batch_size: int, images: int | None,
        precision: Precision,
    ) -> SubnetScorer:  # fmt: skip
        """Returns a scorer of the supernet's subnets, with its cache of features."""
        return self._scorer.get(
            (source, data.directory, data.digest, data.val.class_weights, device, batch_size, images, precision),
            lambda: SubnetScorer(self.supernet(source, device), data, batch_size, images, precision),
        )


def _open_images(directory: Path, balanced_error: bool) -> PreparedData:
    """Returns prepared images. Raises `ImagesChangedError` if they are damaged."""
    try:
        data = PreparedData.open(directory)
        if data.num_bytes <= MAX_VERIFIED_BYTES:
            data.verify()
    except UserError as error:
        raise ImagesChangedError(str(error).removesuffix("; prepare the data again")) from None
    return data.with_balanced_errors() if balanced_error else data


def _open_movable(job: LandscapeJob, device: torch.device) -> MovableNetwork:
    if digest_of_file(Path(job.network.path)) != job.network.digest:
        raise UserError(f"{job.network.path} is not the network that the landscape was begun with: it has changed")
    return MovableNetwork(SReT.load(Path(job.network.path)).eval().to(device), *job.directions)


def _open_supernet(source: SupernetSource, device: torch.device) -> Supernet:
    if digest_of_file(Path(source.path)) != source.digest:
        raise UserError(f"{source.path} is not the supernet that the search was begun with: its content has changed")
    supernet, _ = Supernet.load(Path(source.path))
    return supernet.to(device)
