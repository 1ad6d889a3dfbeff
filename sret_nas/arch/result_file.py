"""A search's result as a YAML file: the architecture with its cost, metrics, recipe and provenance.

`ArchConfig.from_yaml` and `SReT.from_yaml` read the architecture back; the other entries are for people.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.files import write_atomically
from sret_nas.yaml_files import dump_yaml


def result_yaml(
    arch: ArchConfig, *, metrics: dict[str, Any], recipe: dict[str, Any], provenance: dict[str, Any],
    canonical: bool = True,
) -> str:  # fmt: skip
    """Returns the text of a result file.

    With `canonical` the architecture is in canonical form, without what has no effect at its image size.
    """
    return dump_yaml(
        {
            "arch_id": arch.arch_id,
            "architecture": (arch.canonical() if canonical else arch).to_dict(),
            "cost": cost_of(arch).to_dict(),
            "metrics": metrics,
            "recipe": recipe,
            "provenance": provenance,
        }
    )


def write_result(
    path: Path, arch: ArchConfig, *, metrics: dict[str, Any], recipe: dict[str, Any], provenance: dict[str, Any]
) -> None:
    """Writes a result file atomically."""
    write_atomically(path, result_yaml(arch, metrics=metrics, recipe=recipe, provenance=provenance))
