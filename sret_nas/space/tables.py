"""Cache of the tables computed from a search space, owned by the space.

Tables of rich spaces are large and slow to compute. Each belongs to one `SearchSpace` and is freed together with it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Table = TypeVar("Table")


class SpaceTables:
    """The tables of one space, by a key that names what they hold.

    Tables follow from the space, so they do not take part in comparisons: all instances are equal. Copies and pickles
    are empty. Spaces therefore stay small to send, and a changed copy cannot use the tables of the original.
    """

    def __init__(self) -> None:
        self._tables: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compute: Callable[[], Table]) -> Table:
        """Returns the table of a key; the first call computes it."""
        if key not in self._tables:
            self._tables[key] = compute()
        table: Table = self._tables[key]
        return table

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpaceTables)

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> SpaceTables:
        return SpaceTables()

    def __deepcopy__(self, memo: dict[int, Any]) -> SpaceTables:
        return SpaceTables()

    def __reduce__(self) -> tuple[type[SpaceTables], tuple[()]]:
        return SpaceTables, ()
