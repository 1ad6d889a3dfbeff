"""Lines of JSON that end in a checksum of what comes before it, so that damage on the disk is noticed."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

from sret_nas.errors import ConfigError

CHECKSUM = "crc32"
"""Last key of a line: the CRC-32 of the line without it, in eight hexadecimal digits."""

_CHECKSUM_AT_END = re.compile(rb', "crc32": "([0-9a-f]{8})"}$')


def with_checksum(content: dict[str, Any]) -> bytes:
    """Returns plain data as a line of a file. Raises `ValueError` for a number that is not finite."""
    plain = json.dumps(content, allow_nan=False).encode()
    return plain[:-1] + f', "{CHECKSUM}": "{zlib.crc32(plain):08x}"}}\n'.encode()


def without_checksum(line: bytes, source: str, must_be_checked: bool) -> tuple[bytes, bool]:
    """Returns a line without its checksum, and whether it had one; files of earlier versions have none.

    Raises `ConfigError` if the line has changed since it was written, or lacks a checksum that `must_be_checked` asks.
    """
    checksum = _CHECKSUM_AT_END.search(line)
    if checksum is None:
        if must_be_checked:
            raise ConfigError(source, "", "not a record of this tool: it has no checksum, unlike the lines before it")
        return line, False
    plain = line[: checksum.start()] + b"}"
    if zlib.crc32(plain) != int(checksum[1], 16):
        problem = "its checksum says that it has changed since it was written"
        raise ConfigError(source, "", f"not a record of this tool: {problem}")
    return plain, True
