"""Publishes runs of the shipped studies: numbers in `benchmarks/results/studies/`, page and picture in `docs/studies/`.

    python cli.py study run loops --data cifar10 --workers 1 --out runs/loops
    python -m benchmarks.studies runs/loops

Numbers are derived from the run's records. Words, claims among them, are those of the shipped file, which must describe
the same trainings. `python -m docs.generate` then renews the table of all studies.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from trials.report.study import StudyOutcome
from trials.report.study_files import to_json, to_markdown
from trials.report.study_picture import study_picture
from trials.runs.loaded_study import LoadedStudy, shipped_studies
from trials.runs.study_records import read_study_history

REPOSITORY = Path(__file__).resolve().parent.parent
NUMBERS, PAGES = REPOSITORY / "benchmarks" / "results" / "studies", REPOSITORY / "docs" / "studies"


def publish(run_dir: Path, numbers: Path = NUMBERS, pages: Path = PAGES) -> None:
    """Writes the files of a run. Raises `UserError` if it is not of a shipped study, or has no result."""
    history = read_study_history(run_dir)
    name = history.loaded.study.name
    if name not in shipped_studies():
        raise UserError(f"{run_dir} is a run of {name}, which is not shipped; those are {', '.join(shipped_studies())}")
    shipped = LoadedStudy.load(str(shipped_studies()[name]))
    if (shipped.trainings, shipped.teacher) != (history.loaded.trainings, history.loaded.teacher):
        raise UserError(f"{run_dir} is a run of another study {name}: the shipped one trains other networks")
    history.loaded = shipped
    outcome = StudyOutcome.of(history)
    if outcome.any_result is None:
        raise UserError(f"{run_dir} has no result yet")
    write_atomically(numbers / f"{name}.json", to_json(outcome))
    write_atomically(pages / f"{name}.png", study_picture(outcome))
    write_atomically(pages / f"{name}.md", to_markdown(outcome, f"{name}.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories")
    for run in parser.parse_args().runs:
        publish(run)
