"""The images of a job, opened once per worker."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sret_nas.errors import UserError
from trials.data import PreparedData
from trials.engines.messages import JobContext


def load_dataset(job: JobContext) -> PreparedData:
    """Returns the job's images. Raises `UserError` if they are not those that the search was begun with."""
    data = load_dataset_dir(job.data_dir)
    if data.digest != job.data_digest:
        raise UserError(f"the prepared images in {job.data_dir} are not those that the search was begun with")
    return data


@lru_cache(maxsize=1)
def load_dataset_dir(directory: str) -> PreparedData:
    """Prepared images, kept for the next job."""
    return PreparedData.open(Path(directory))
