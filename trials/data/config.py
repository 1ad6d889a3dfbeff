"""The configuration of a data set: its source, its image size, and its split into three parts.

The names of the fields are part of the names of cached data sets, so renaming one would prepare all images again.
"""

from __future__ import annotations

from dataclasses import dataclass

from sret_nas.errors import ConfigError, describe

DIGITS = "digits"
"""The source without files: scikit-learn's handwritten digits."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A data set and its split, as plain values. Raises `ConfigError` for values out of range.

    With a `root`, `source` is the name of a torchvision data set whose files are there (nothing is downloaded). Without
    one it is `digits` or the path of an image folder; `./digits` is a folder of that name.
    """

    source: str = DIGITS
    root: str | None = None
    image_size: int = 32
    """Side in pixels to which the largest centred square of every image is resized, with antialiasing."""
    val_fraction: float = 0.2
    """Fraction of each class for the validation part, if the source does not have this part."""
    test_fraction: float = 0.2
    """Fraction of each class for the test part, if the source does not have this part."""
    split_seed: int = 0
    """Seed of the split. No other seed affects it, so that runs with different seeds are comparable."""
    max_train: int | None = None
    """Maximum number of training images, stratified by class; a smaller limit gives a subset of a larger one's."""
    max_val: int | None = None
    max_test: int | None = None
    flip: bool | None = None
    """Whether a mirrored image keeps its class; None takes the default of the source, which is yes for a folder."""
    skip_broken: bool = False
    """Whether images that cannot be read are left out; otherwise they are an error."""

    def __post_init__(self) -> None:
        _require(isinstance(self.source, str) and self.source != "", "source", "a name or a folder", self.source)
        _require(self.root is None or isinstance(self.root, str), "root", "a folder", self.root)
        _require(_is_int(self.image_size, 8, 4096), "image_size", "a whole number from 8 to 4096", self.image_size)
        _require(_is_int(self.split_seed, 0), "split_seed", "a whole number of at least 0", self.split_seed)
        _require(self.flip is None or isinstance(self.flip, bool), "flip", "true, false or null", self.flip)
        _require(isinstance(self.skip_broken, bool), "skip_broken", "true or false", self.skip_broken)
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            _require(is_number and 0 < value < 1, name, "a number between 0 and 1", value)
        total = self.val_fraction + self.test_fraction
        _require(total < 1, "val_fraction + test_fraction", "less than 1, so that something is left to train on", total)
        for name in ("max_train", "max_val", "max_test"):
            value = getattr(self, name)
            _require(value is None or _is_int(value, 2), name, "a whole number of at least 2, or null", value)

    @property
    def is_folder(self) -> bool:
        return self.root is None and self.source != DIGITS


def _is_int(value: object, low: int, high: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _require(holds: bool, key: str, rule: str, value: object) -> None:
    if not holds:
        raise ConfigError("data", key, f"must be {rule}, got {describe(value)}")
