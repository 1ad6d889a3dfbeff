"""Whether the state of a training fits into memory, which is known before a network is built."""

from __future__ import annotations

from sret_nas.errors import UserError
from sret_nas.quantities import format_quantity

BYTES_PER_PARAMETER = 16
"""A parameter, its gradient and the two moments of AdamW, in fp32."""


def require_memory(num_params: int, memory_bytes: int, what: str, advice: str) -> None:
    """Raises `UserError` if a training cannot fit into memory, however small its batches are.

    Linux grants more memory than it has and later ends processes, not always those that took it.

    Args:
        num_params: Parameters that are trained.
        memory_bytes: All memory of the device.
        what: Names the network in the message.
        advice: What the user can do.
    """
    needed = BYTES_PER_PARAMETER * num_params
    if needed > memory_bytes:
        raise UserError(
            f"{what} has {format_quantity(num_params)} parameters: training it takes at least {needed / 1e9:,.0f} GB "
            f"of memory, and there are {memory_bytes / 1e9:,.0f} GB: {advice}"
        )
