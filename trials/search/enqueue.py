"""Known networks that a search tries first."""

from __future__ import annotations

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.plurals import counted

from ..runs.options import SearchOptions
from ..strategies.sret import SReTDomain
from ..strategies.strategy import Candidate


def enqueued_candidates(domain: SReTDomain, options: SearchOptions) -> list[Candidate]:
    """Returns the networks of `--enqueue`, with the first depth schedule of the space that matters for each.

    They get the target's classes and channels, whatever their files say: what is tried is their structure.

    Raises `UserError` for one that is not in the space or outside the budget, or that is named twice.
    """
    candidates: list[Candidate] = []
    target = {"classes": domain.space.classes, "channels": domain.space.channels}
    for described in options.enqueue:
        arch = ArchConfig.from_dict({**described.to_dict(), **target}, "--enqueue")
        if not domain.space.contains(arch):
            raise UserError(
                f"--enqueue: network {arch.arch_id} is not one of {domain.space.name} for "
                f"{domain.space.image_size} px, {counted(domain.space.channels, 'channel')} and "
                f"{domain.space.classes} classes"
            )
        candidate = domain.decode({**domain.space.encode(arch), "depth_schedule": domain.space.depth_schedules[0]})
        assert candidate is not None  # the space contains it
        if domain.excess(candidate) > 0:
            raise UserError(f"--enqueue: network {arch.arch_id} is outside the budget: {options.describe_budget()}")
        if candidate in candidates:
            raise UserError(f"--enqueue names network {arch.arch_id} twice")
        candidates.append(candidate)
    return candidates
