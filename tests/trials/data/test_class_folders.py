"""Folders of classes, as they are listed before any image is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sret_nas.errors import UserError
from trials.data.class_folders import list_classes


def test_a_class_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    """Its name could not be written into any file of results."""
    for name in (b"cat", b"chi\xean"):
        folder = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(folder)
        with open(folder + b"/0.png", "wb") as image:
            image.write(b"an image")
    with pytest.raises(UserError, match=r"/chi\\udcean: the name of a class must be UTF-8, .*: rename the folder$"):
        list_classes(tmp_path, "", is_train=True)
