"""What has been computed of a search space: kept by the space itself, for as long as the space is.

Tables are large, and slow to compute where a space is rich. They belong to one `SearchSpace`, so they go
when it goes, and nobody has to say when.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Table = TypeVar("Table")


class SpaceTables:
    """The tables of one space, by what computes them.

    They follow from the space, so they are no part of what it is: two of these are always equal, and a copy or a
    pickle holds nothing, which keeps spaces small to send and safe to change in a copy.
    """

    def __init__(self) -> None:
        self._tables: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compute: Callable[[], Table]) -> Table:
        """Returns the table of a key, which is computed when it is asked for first."""
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
