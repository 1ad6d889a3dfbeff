"""Files of every kind that the tool reads, good ones and what a seed makes of them, with the function that reads each.

Used by the fuzz test of the suite and by the long one, `benchmarks/faults/fuzz_files.py`.
"""

from __future__ import annotations

from tests.foreign_files import images, networks, runs
from tests.foreign_files.mutation import mutated
from tests.foreign_files.small import Kind, Reader

__all__ = ["KINDS", "Kind", "Reader", "mutated"]

KINDS: dict[str, Kind] = {**networks.KINDS, **images.KINDS, **runs.KINDS}
"""All kinds by name, but for exports (`tests.foreign_files.exports`), which take seconds to make."""
