"""The reference of all commands, in Markdown, from the argparse parsers themselves."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence

from cli import create_parser

VALUES = "0|ray|local|search|train"
"""What follows an option in a help text and is its value, not the next word of the sentence."""


def command_reference() -> str:
    """Returns a section for every command, with a table for every group of options."""
    return "\n\n".join(_section(parser) for parser in leaf_parsers(create_parser()))


def leaf_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yields the parsers that have no commands below them, in the order of `--help`."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for command in action.choices.values():
            yield from leaf_parsers(command)


def _section(parser: argparse.ArgumentParser) -> str:
    name = parser.prog.partition(" ")[2]
    usage = parser.format_usage().removeprefix("usage: ").removesuffix(" [-h]\n").strip()
    lines = [line.strip() for line in usage.splitlines()]
    parts = [f"## {name}", (parser.description or "").strip(), "\n".join(["```text", *lines, "```"])]
    untitled = [group for group in parser._action_groups if group.title in ("positional arguments", "options")]
    if actions := [action for group in untitled for action in _shown(group)]:
        parts.append(_table(actions, "argument" if all(not action.option_strings for action in actions) else "option"))
    for group in parser._action_groups:
        if group not in untitled and (actions := _shown(group)):
            parts.append(f"**{(group.title or '').capitalize()}.** {_marked(group.description or '')}".strip())
            parts.append(_table(actions, "option"))
    if parser.epilog:
        lines = [line.strip() for line in parser.epilog.splitlines()[1:]]
        parts.append("\n".join(["```sh", *lines, "```"]))
    return "\n\n".join(parts)


def _shown(group: argparse._ArgumentGroup) -> list[argparse.Action]:
    """Returns what `--help` shows of a group, without `--help` itself."""
    shown = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
    return [action for action in shown if not isinstance(action, argparse._HelpAction)]


def _table(actions: Sequence[argparse.Action], heading: str) -> str:
    rows = [f"| {_spelling(action)} | {_escaped(_marked(action.help or ''))} |" for action in actions]
    return "\n".join([f"| {heading} | meaning |", "| --- | --- |", *rows])


def _spelling(action: argparse.Action) -> str:
    """Returns an option with its value, as `--engine {local,ray}`; a positional argument is its placeholder."""
    value = action.metavar or (f"{{{','.join(action.choices)}}}" if action.choices else "")
    if not action.option_strings:
        return f"`{_escaped(str(value))}`"
    return f"`{_escaped(' '.join([action.option_strings[-1], str(value)]).strip())}`"


def _marked(text: str) -> str:
    """Sets options inside a sentence as code, with a value that is named with them, but not what is code already."""
    return re.sub(
        rf"(`[^`]+`)|(--[a-z][a-z0-9-]+(?: (?:{VALUES})\b)?)", lambda match: match[1] or f"`{match[2]}`", text
    )


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
