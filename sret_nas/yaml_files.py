"""YAML as plain data: bounded when read from untrusted files, readable when written.

The parsed nodes are checked before any Python object is built: depth, size with aliases expanded, and types (numbers,
strings, lists, and mappings with distinct string keys). Tags (`!!int`), merge keys, dates, and numbers to the base
of 8 or 60 (`010`, `1:30`) are refused, because the objects that they build differ from the text that is written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from sret_nas.bounded_files import merge_surrogates, read_text
from sret_nas.errors import ConfigError, describe, printable

MAX_BYTES = 256 * 2**10
"""Most bytes of a file. The largest shipped space has 2 kB; PyYAML reads about 250 kB per second."""
MAX_NODES = 50_000
"""Most values, lists, mappings and keys; each use of an alias counts as if it were written out."""
MAX_DEPTH = 32
"""Most levels of nesting."""
MAX_DIGITS = 400
"""Most characters of a number; no float has more digits before its point."""

_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")}
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
"""A whole number that begins with 0, which YAML 1.1 reads to the base of 8: 010 is 8."""
_MERGE = "tag:yaml.org,2002:merge"
_DATE = "tag:yaml.org,2002:timestamp"


class _Problem(yaml.MarkedYAMLError):
    """A broken rule, with its position in the file."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _PlainLoader(yaml.SafeLoader):
    """A loader that composes nodes within the bounds above, then builds plain data from them."""

    def __init__(self, text: str, number_keys: bool) -> None:
        super().__init__(text)
        self._key_types = (str, int, float) if number_keys else (str,)
        self._depth = 0
        self._num_nodes = 0
        self._sizes: dict[int, int] = {}
        """Number of nodes below each finished anchored node, itself included, by `id`. An open node is not in here."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Composes a node as PyYAML does, but refuses tags, endless aliases, and content beyond the bounds."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            size = self._sizes.get(id(node))
            if size is None:  # the aliased node is still open: expanding it would never end
                raise _Problem(f"the alias {event.anchor!r} stands inside what it stands for", event.start_mark)
            self._count(size, event.start_mark)
            return node
        if event.tag is not None:
            raise _Problem(
                f"tags are not read here, got {describe(_written(event.tag))}: write the plain value", event.start_mark
            )
        if self._depth >= MAX_DEPTH:
            raise _Problem(f"must be at most {MAX_DEPTH} levels deep", event.start_mark)
        before = self._num_nodes
        self._count(1, event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._sizes[id(node)] = self._num_nodes - before
        return node

    def _count(self, num_nodes: int, mark: Any) -> None:
        """Adds to the number of nodes. Raises `_Problem` beyond `MAX_NODES`."""
        self._num_nodes += num_nodes
        if self._num_nodes > MAX_NODES:
            raise _Problem(f"must hold at most {MAX_NODES:,} values, aliases written out", mark)

    def plain_data(self) -> Any:
        """Returns the content of the only document, or None if it is empty."""
        node = self.get_single_node()
        return None if node is None else self._plain(node, {})

    def _plain(self, node: yaml.Node, built: dict[int, Any]) -> Any:
        """Builds the plain data of a node; `built` caches it, so that an aliased node is built once."""
        if id(node) not in built:
            if isinstance(node, yaml.MappingNode):
                built[id(node)] = self._plain_mapping(node, built)
            elif isinstance(node, yaml.SequenceNode):
                built[id(node)] = [self._plain(item, built) for item in node.value]
            elif isinstance(node, yaml.ScalarNode):
                built[id(node)] = self._plain_scalar(node)
        return built[id(node)]

    def _plain_mapping(self, node: yaml.MappingNode, built: dict[int, Any]) -> dict[Any, Any]:
        """Builds a mapping. Raises `_Problem` for merge keys, keys of other types than allowed, and repeated keys."""
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                raise _Problem("merge keys (<<) are not read here: write the keys out", key_node.start_mark)
            key = self._plain(key_node, built) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, self._key_types) or isinstance(key, bool):
                got = "a list or a mapping" if key_node.id != "scalar" else describe(key)
                raise _Problem(f"a key must be a word, got {got}; quotes make it one", key_node.start_mark)
            if key in mapping:
                raise _Problem(f"key {describe(key)} is written twice", key_node.start_mark)
            mapping[key] = self._plain(value_node, built)
        return mapping

    def _plain_scalar(self, node: yaml.ScalarNode) -> Any:
        """Builds a scalar. Raises `_Problem` for dates and other special types, and for malformed values."""
        if node.tag not in _PLAIN:
            what = "a date" if node.tag == _DATE else "a special value"
            raise _Problem(f"{what} is not read here, got {describe(node.value)}; quotes make it text", node.start_mark)
        if node.tag.endswith((":int", ":float")) and len(node.value) > MAX_DIGITS:
            raise _Problem(
                f"a number must have at most {MAX_DIGITS} characters, got {len(node.value):,}", node.start_mark
            )
        if node.tag.endswith((":int", ":float")) and (":" in node.value or _OCTAL.fullmatch(node.value)):
            raise _Problem(
                f"{describe(node.value)} is not read here, since YAML takes it for another number: write it in "
                "decimal, or with quotes to make it text",
                node.start_mark,
            )
        try:
            value = self.construct_object(node)
            return merge_surrogates(value) if isinstance(value, str) else value
        except (ValueError, OverflowError, IndexError) as error:  # `0x_`, or half a surrogate pair
            raise _Problem(f"{describe(node.value)} cannot be read: {error}", node.start_mark) from None


def _written(tag: str) -> str:
    """Returns a tag as it is written in a file, e.g. `!!int`."""
    prefix = "tag:yaml.org,2002:"
    return f"!!{tag.removeprefix(prefix)}" if tag.startswith(prefix) else tag


def read_yaml(path: Path, *, number_keys: bool = False) -> Any:
    """Returns the content of a YAML file as plain Python data; with `number_keys`, keys may be numbers as well.

    Raises `UserError` if the file is missing, unreadable or too large, and `ConfigError` if it is not plain YAML.
    """
    return parse_yaml(read_text(path, MAX_BYTES), source=str(path), number_keys=number_keys)


def parse_yaml(text: str, source: str, *, number_keys: bool = False) -> Any:
    """Parses YAML text into plain Python data; with `number_keys`, keys may be numbers as well.

    Raises `ConfigError`, naming `source` and the line, if the text is not plain YAML.
    """
    try:
        loader = _PlainLoader(text, number_keys)
        try:
            return loader.plain_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(source, where, f"not valid YAML: {what}") from None
    except yaml.reader.ReaderError as error:
        position, code = error.position, error.character
        where = f"line {text.count(chr(10), 0, position) + 1}"
        shown = printable(chr(code)) if isinstance(code, int) else describe(code)
        raise ConfigError(source, where, f"not valid YAML: the character {shown} is not allowed in it") from None


class _PlainDumper(yaml.SafeDumper):
    """A dumper that writes flat lists on one line and multi-line text as blocks, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Returns True: repeated objects are written out instead of anchored."""
        return True


def _represent_list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.SequenceNode:
    """Represents a list on one line, unless it holds mappings."""
    is_flat = all(not isinstance(item, dict) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=is_flat)


_ODD_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")
"""What YAML 1.1 also reads as line breaks; only quotes preserve them."""


def _represent_text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    """Represents text of several lines as a block."""
    style = "|" if "\n" in data else None
    if _ODD_LINE_BREAKS.search(data):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_PlainDumper.add_representer(list, _represent_list)
_PlainDumper.add_representer(str, _represent_text)


def dump_yaml(data: Any) -> str:
    """Returns plain Python data as YAML text; mappings keep their order."""
    return yaml.dump(data, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=120)
