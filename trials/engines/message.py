"""What every message between the driver of a search and its workers is: plain data in JSON, checked where it arrives.

Images and weights are sent as paths, never by value.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """A job (`jobs`) or a result (`results`). Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
