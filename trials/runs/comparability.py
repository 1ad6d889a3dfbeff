"""Which searches compare: their errors must be of the same images, and their costs of the same targets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .recorded_search import RecordedSearch

Aspects = dict[str, str]
"""What numbers are of, by name, each as text for a message."""


def what_is_scored(search: RecordedSearch) -> Aspects:
    """Returns what the errors and costs of a search are of. Searches compare if all of it is equal."""
    options, space, data = search.options, search.domain.space, search.history.header["data"]
    name = data["summary"].partition(":")[0]
    return {
        "images": f"{name} (digest {data['digest'][:8]})",
        "validation images of a trial": _images_scored(options.val_images_per_trial, data["summary"]),
        "image size": f"{options.image_size} px",
        "error": "every class counts alike" if options.balanced_error else "every image counts alike",
        "target": f"{space.image_size} px, {space.channels} channels, {space.classes} classes",
    }


def _images_scored(per_trial: int | None, summary: str) -> str:
    """Returns how many of a summary's validation images a trial is scored on; `all`, even if they were counted out."""
    found = re.search(r"^  validation +([\d,]{1,15}) images: ", summary, re.MULTILINE)
    is_all = per_trial is None or (found is not None and per_trial >= int(found[1].replace(",", "")))
    return "all" if is_all else f"{per_trial:,}"


def how_it_was_trained(search: RecordedSearch) -> Aspects:
    """Returns how proxies came to their weights. Where it differs, errors compare, but say little of the networks."""
    options, header = search.options, search.history.header
    if options.no_supernet:
        weights = f"from scratch, on {_length_of(header['proxy'])}"
    else:
        provision = header.get("supernet") or {}
        given = provision.get("given")
        supernet = f"of digest {given['digest'][:8]}" if given else f"of {_length_of(provision.get('config') or {})}"
        weights = f"inherited from a supernet {supernet}"
    labels = header.get("soft_labels")
    learned = "the images' classes" if labels is None else f"soft labels of digest {labels['digest'][:8]}"
    return {"weights": weights, "labels": learned, "width of the proxy": f"{options.width_scale:g} of the target's"}


def _length_of(trained: dict[str, Any]) -> str:
    """Returns the length of a recorded training; records of early versions may lack it."""
    images = trained.get("training", {}).get("images")
    return "unknown length" if images is None else f"{images:,} images"


def differences(aspects: Aspects, others: Aspects) -> str:
    """Returns in what two differ, as `image size 64 px, not 32 px`; empty if in nothing."""
    return "; ".join(f"{name} {value}, not {others[name]}" for name, value in aspects.items() if value != others[name])


def largest_group(searches: Sequence[RecordedSearch]) -> list[RecordedSearch]:
    """Returns the most searches that compare with each other, in their order; of equal groups, the first."""
    groups: dict[tuple[str, ...], list[RecordedSearch]] = {}
    for search in searches:
        groups.setdefault(tuple(what_is_scored(search).values()), []).append(search)
    return max(groups.values(), key=len)
