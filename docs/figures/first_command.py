"""The figures of the first command: its time, its memory, and what it printed."""

from __future__ import annotations

from collections.abc import Callable

from docs.figures.tables import RESULTS, load, table


def first_command_seconds() -> str:
    return f"{load('first_command')['wall_seconds']:.0f} s"


def first_command_memory() -> str:
    return f"{load('first_command')['peak_memory_mb'] / 1000:.1f} GB"


def first_output() -> str:
    """Returns six lines that say what the first command did, as it printed them."""
    lines = (RESULTS / "first_command.txt").read_text(encoding="utf-8").splitlines()

    def last(*words: str) -> str:
        return next(line for line in reversed(lines) if all(word in line for word in words))

    wanted = (("Search:",), ("validation accuracy",), ("trial ", " error ", " left]"), ("from scratch:", "test error"),
              ("control of trial",), ("Networks:",))  # fmt: skip
    return "\n".join(["```text", *(last(*words).rstrip() for words in wanted), "```"])


def control_table() -> str:
    """Returns the finalists of the first command beside the random networks of equal FLOPs."""
    lines = (RESULTS / "first_command.txt").read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("Was it luck?"))
    cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in lines[begin:] if line.startswith("│")]
    note = next(line for line in lines[begin:] if line.startswith("Of "))
    header = ["trial", "FLOPs, found", "FLOPs, random", "test error, found", "test error, random", "difference"]
    return table(header, cells) + "\n\n" + note


FIGURES: dict[str, Callable[[], str]] = {
    "first-command-seconds": first_command_seconds,
    "first-command-memory": first_command_memory,
    "first-output": first_output,
    "control-table": control_table,
}
"""The parts by the names that markers use."""
