"""Splitting images by class: in any order, into whole parts, and stratified from the first row on."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trials.data.source import Samples
from trials.data.splitting import carve, interleave, shuffled_by_class


def _samples(labels: list[int], names: list[str]) -> Samples:
    return Samples(where="here", names=names, labels=np.array(labels), load=lambda _: Image.new("L", (1, 1)))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.randoms(use_true_random=False), st.integers(0, 99))
def test_the_order_of_the_list_does_not_matter(labels: list[int], random: object, seed: int) -> None:
    names = [f"{label}/{number}" for number, label in enumerate(labels)]
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = [names[i] for i in order]
    one = shuffled_by_class(_samples(labels, names), 4, seed)
    other = shuffled_by_class(_samples([labels[i] for i in order], shuffled), 4, seed)
    assert [[names[i] for i in images] for images in one] == [[shuffled[i] for i in images] for images in other]
    assert [sorted(images) for images in one] == [[i for i, had in enumerate(labels) if had == n] for n in range(4)]


@given(
    st.lists(st.integers(3, 400), min_size=2, max_size=6),
    st.floats(0.01, 0.33, allow_nan=False),
    st.floats(0.01, 0.33, allow_nan=False),
)
def test_parts_are_disjoint_complete_and_have_every_class(counts: list[int], val: float, test: float) -> None:
    starts = np.cumsum([0, *counts])
    by_class = [np.arange(low, high) for low, high in itertools.pairwise(starts)]
    parts = carve(by_class, {"test": test, "val": val}, tuple(map(str, counts)), "here")
    rows = {part: interleave(chosen).tolist() for part, chosen in parts.items()}
    assert sorted(rows["train"] + rows["val"] + rows["test"]) == list(range(sum(counts)))
    for part, share in (("val", val), ("test", test)):
        assert [len(images) for images in parts[part]] == [max(1, round(count * share)) for count in counts]
    assert all(len(images) for chosen in parts.values() for images in chosen)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5))
@settings(max_examples=50)
def test_the_row_is_websters_apportionment(counts: list[int]) -> None:
    """Against the method as it is defined: the next seat goes to the largest votes / (2 * seats + 1)."""
    by_class = [np.full(count, label) for label, count in enumerate(counts)]
    seats = [1] * len(counts)
    expected = sorted(range(len(counts)), key=lambda n: (-counts[n], n))
    while len(expected) < sum(counts):
        label = max(range(len(counts)), key=lambda n: (seats[n] < counts[n], counts[n] / (2 * seats[n] + 1), -n))
        seats[label] += 1
        expected.append(label)
    assert interleave(by_class).tolist() == expected
