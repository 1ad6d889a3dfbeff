"""The picture of a study has a panel for everything that was measured, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trials.studies.tiny_study import run_study, write_study
from trials.report.study_picture import study_picture


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "panels"), [({"measure": [], "claims": []}, 1), ({"measure": ["depths", "curves"]}, 3)]
)
def test_every_panel_shows_something(
    changes: dict[str, Any], panels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, _ = run_study(write_study(tmp_path, **changes, seeds=1), tmp_path / "run")
    drawn: list[Any] = []
    monkeypatch.setattr("trials.report.study_picture.png_of", lambda figure: drawn.append(figure) or b"")  # type: ignore[func-returns-value]
    study_picture(outcome)
    shown = [axes for axes in drawn[0].axes if axes.get_visible()]
    assert len(shown) == panels
    assert all(axes.has_data() for axes in shown)
