"""The figures of the shipped studies: their claims, and what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from docs.figures.tables import REPOSITORY, RESULTS, Row, table
from sret_nas.yaml_files import read_yaml

STUDIES = REPOSITORY / "studies"

_STUDY_ORDER = (
    "recursion", "loops", "nll", "groups", "residuals", "stem", "head", "distillation", "depths", "deep",
)  # fmt: skip

_VERDICTS = {
    "holds": "holds", "does not hold": "does not hold here", "cannot tell": "cannot tell",
    "not run": "not run",
}  # fmt: skip


def studies_table() -> str:
    """Returns every claim of the shipped studies, their figure, and what came out; for docs/studies/."""
    rows = []
    for name in _STUDY_ORDER:
        study = read_yaml(STUDIES / f"{name}.yaml")
        results = RESULTS / "studies" / f"{name}.json"
        claims = json.loads(results.read_text(encoding="utf-8"))["claims"] if results.is_file() else study["claims"]
        for number, claim in enumerate(claims):
            title = study["title"] if not results.is_file() else f"[{study['title']}]({name}.md)"
            rows.append((title if number == 0 else "", *_claim_cells(claim)))
    return table(("study", "claim", "their figure", "here: points of test error", "at this scale"), rows)


def _claim_cells(claim: dict[str, Any]) -> Row:
    text = f"{claim['text']} ({claim['source']})"
    figure, difference = claim.get("figure") or "none given", claim.get("difference_in_points")
    if difference is None:
        return text, figure, "not run", "not run"
    found = f"{claim['compared']} = {difference['mean']:+.2f}"
    if difference["low"] is not None:
        found += f" ({difference['low']:+.2f} to {difference['high']:+.2f}; {difference['seeds']} seeds)"
    else:
        found += " (one seed)"
    return text, figure, found, _VERDICTS[claim["verdict"]]


FIGURES: dict[str, Callable[[], str]] = {
    "studies-table": studies_table,
}
"""The parts by the names that markers use."""
