"""The lock of prepared images: what another process prepares is not deleted, and what is deleted is prepared anew."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

from trials.data import DataConfig, prepare
from trials.data.preparation import delete_prepared, is_being_prepared


def test_images_that_are_being_prepared_are_not_deleted(tmp_path: Path) -> None:
    directory = tmp_path / "prepared"
    directory.mkdir()
    assert not is_being_prepared(directory)
    with open(directory / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_being_prepared(directory)
        assert not delete_prepared(directory)
        assert directory.is_dir()
    assert not is_being_prepared(directory)
    assert delete_prepared(directory)
    assert not any(tmp_path.iterdir())


def test_who_waited_for_a_directory_that_was_deleted_prepares_it_anew(tmp_path: Path) -> None:
    """And holds the lock that others find."""
    directory = tmp_path / "prepared"
    directory.mkdir()
    config = DataConfig(image_size=8, max_train=10, max_val=10, max_test=10)
    waiting = threading.Thread(target=prepare, args=(config, directory))
    with open(directory / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting.start()
        waiting.join(0.05)
        directory.rename(tmp_path / "deleted")
    waiting.join()
    assert (directory / ".lock").is_file()
    assert len(list(directory.iterdir())) > 3
