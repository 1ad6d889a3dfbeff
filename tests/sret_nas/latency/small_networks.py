"""Every network of a small space with the latency that a pretended profile predicts, and its parts in order."""

from __future__ import annotations

from sret_nas import ArchConfig, Budget
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.latency.profile import Part
from sret_nas.latency.table import LatencyTable
from tests.latency_profiles import SMALL, pretended_profile

TABLE = LatencyTable(SMALL, pretended_profile(SMALL))
NETWORKS = list(FeasibleSet(SMALL, Budget()))
LATENCY = {arch.arch_id: TABLE.latency(arch) for arch in NETWORKS}


def parts_in_order(arch: ArchConfig) -> list[Part]:
    """Returns the parts of one pass, application by application, as the network runs them."""
    stem = (arch.channels, arch.stem.width, arch.stages[0].width, *arch.stem.strides)
    parts = [Part("stem", arch.image_size, stem)]
    for number, (stage, side) in enumerate(zip(arch.stages, arch.resolutions, strict=True)):
        if number > 0:
            before = arch.stages[number - 1].width
            parts.append(Part("pool", arch.resolutions[number - 1], (before, stage.width)))
        for _, recursion in stage.applications():
            groups = stage.groups[recursion]
            is_permuted = recursion > 0 and 1 < groups < side * side
            parts.append(Part("attention", side, (stage.width, stage.heads, groups, int(is_permuted))))
            parts.append(Part("mlp", side, (stage.width, stage.mlp_hidden)))
            if stage.nll_after(recursion) is not None:
                parts.append(Part("mlp", side, (stage.width, stage.nll_hidden)))
    parts.append(Part("head", arch.resolutions[-1], (arch.stages[-1].width, arch.classes)))
    return parts
