"""The jobs of the benchmark: nothing, or an amount of computing that is fixed beforehand."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

SIZE = 192
"""Of the matrices that are multiplied: small enough for a core's own cache."""


def run(payload: dict[str, Any]) -> dict[str, Any]:
    """Multiplies matrices as often as the payload says, and tells how long that took here, by the wall clock."""
    started = time.perf_counter()
    if payload["products"] > 0:
        multiply(payload["products"])
    return {"seconds": time.perf_counter() - started}


def multiply(products: int) -> float:
    """Computes the same product again and again: powers would soon hold numbers that take longer."""
    matrix = np.random.default_rng(0).standard_normal((SIZE, SIZE))
    return float(sum((matrix @ matrix)[0, 0] for _ in range(products)))


def products_in(seconds: float) -> int:
    """Computes products that take so many seconds of this processor's time."""
    products = 64
    while True:
        started = time.process_time()
        multiply(products)
        taken = time.process_time() - started
        if taken > 0.2:
            return round(products * seconds / taken)
        products *= 2
