"""What a seed makes of a good file: changes of bytes, of words, of values, of what a header claims."""

from __future__ import annotations

import io
import json
import random
import re
from typing import Any

import torch
import yaml

ODD_WORDS = (
    b'!!int ""', b"!!timestamp x", b"!!map [1]", b"!!python/name:os.system", b'"\\ud83d"', b'"\\e[31m"',
    b'"a\\nerror: b"',
    b"&a [*a]", b"<<", b"2020-13-45", b"0x_", b".nan", b"-.inf", b"1e999", b"9" * 500, b"NaN", b"-1", b"0", b"8192",
    b"1000000000000", b"true", b"null", b"~", b"[]", b"{}", b"[" * 200, b"{a: " * 100, b"'", b"\x00", b"\xff",
    b"\x1b[31m",
    "\u202e".encode(), "\ud83d\ude00".encode(errors="replace"), b"? [a]\n: b", b"- x\n" * 50, b"1:30", b"=", b"[[[1]]]",
)  # fmt: skip
"""What stands in the place of a value: each was once trouble to some reader."""
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2, 2**31, 2**63, 10**30, 1.5, -0.0, 1e308, "", "x", "a\nerror: b", "\x1b[31m", "\u202e", [], {},
    [1, 2, 3], {"a": 1}, [[[[1]]]], 8192, 128, "0" * 5000,
)  # fmt: skip
ODD_TENSORS = (
    torch.zeros(0), torch.zeros(()), torch.zeros(3, dtype=torch.complex64), torch.zeros(3, dtype=torch.bfloat16),
    torch.zeros(3, dtype=torch.int64), torch.full((3,), torch.nan), torch.zeros(2, 3).to_sparse(),
    torch.zeros(3, requires_grad=True), torch.zeros(1).expand(2**40), torch.zeros(3, dtype=torch.bool),
    torch.zeros(3, device="meta"),
)  # fmt: skip


_WORD = re.compile(rb"(?<![\w.])[\w.]+|\"[^\"\n]{0,40}\"")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A file with one to three changes: of bytes, of words, of values, of what a header claims, or cut off."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = rng.choice((_flip, _cut_off, _insert, _replace_word, _replace_word, _replace_value, _repeat))(
            content, rng
        )
    return content


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 4, 32))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _cut_off(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.choice(ODD_WORDS) + content[place:]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    piece = content[start : start + rng.choice((1, 10, 100))]
    return content[:start] + piece * rng.choice((2, 10, 1000)) + content[start:]


def _replace_word(content: bytes, rng: random.Random) -> bytes:
    """Replaces the next word from some place on, or else the first: of a large file not all words are looked for."""
    start = rng.randrange(len(content) + 1)
    word = _WORD.search(content, start) or _WORD.search(content)
    return content if word is None else content[: word.start()] + rng.choice(ODD_WORDS) + content[word.end() :]


def _replace_value(content: bytes, rng: random.Random) -> bytes:
    """In plain data, one value becomes an odd one of another type; all else stays valid.

    Plain data are files of JSON and YAML, lines of JSON, the JSON header of safetensors, and what `torch.save` holds.
    """
    if content.startswith(b"PK"):
        return _replace_saved(content, rng)
    length = int.from_bytes(content[:8], "little")
    is_weights = 0 < length <= len(content) - 8
    texts = content[8 : 8 + length].split(b"\n") if is_weights else content.split(b"\n")
    number = rng.randrange(len(texts))
    for first, last in ((number, number + 1), (0, len(texts))):
        try:
            data = json.loads(b"\n".join(texts[first:last]))
        except (ValueError, RecursionError):  # it is none, or was before an earlier change
            continue
        changed = b"\n".join([*texts[:first], json.dumps(_with_odd_value(data, rng)).encode(), *texts[last:]])
        return len(changed).to_bytes(8, "little") + changed + content[8 + length :] if is_weights else changed
    return content if is_weights else _replace_yaml(content, rng)


def _replace_yaml(content: bytes, rng: random.Random) -> bytes:
    try:
        data = yaml.load(content, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError, IndexError, UnicodeError):
        return content
    if not isinstance(data, dict | list):
        return content
    return yaml.dump(_with_odd_value(data, rng), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True).encode()


def _replace_saved(content: bytes, rng: random.Random) -> bytes:
    try:
        data = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # an earlier change can raise anything in torch's reader
        return content
    buffer = io.BytesIO()
    torch.save(_with_odd_value(data, rng), buffer)
    return buffer.getvalue()


def _with_odd_value(data: Any, rng: random.Random) -> Any:
    if isinstance(data, str) and data[:1] in ("{", "["):  # JSON in JSON: the metadata of safetensors
        try:
            return json.dumps(_with_odd_value(json.loads(data), rng))
        except (ValueError, RecursionError):
            return rng.choice(ODD_VALUES)
    if isinstance(data, torch.Tensor):
        return rng.choice((*ODD_TENSORS, *ODD_VALUES))
    if rng.random() < 0.1 or not isinstance(data, dict | list) or not data:
        return rng.choice(ODD_VALUES)
    if isinstance(data, list):
        place = rng.randrange(len(data))
        return [*data[:place], _with_odd_value(data[place], rng), *data[place + 1 :]]
    key = rng.choice(list(data))
    if rng.random() < 0.1:
        return {name: value for name, value in data.items() if name != key}
    if rng.random() < 0.1:
        return {**data, rng.choice(("x", "__class__", "")): data[key]}
    return {**data, key: _with_odd_value(data[key], rng)}
