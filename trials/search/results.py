"""What a search leaves in its run directory: files, pictures, report and Optuna journal, all made of the records."""

from __future__ import annotations

from ..program_name import resume_command, typed_words
from ..report.drawing import warn_if_undrawn
from ..report.html import REPORT, write_report
from ..report.outputs import FRONT_PNG, write_front_picture, write_outputs
from ..runs.full_disk import writing
from ..runs.optuna_journal import JOURNAL_FILE, OptunaJournal, has_journal
from .run import Run


def write_results(run: Run, *, is_complete: bool) -> None:
    """Writes all files that follow from the records, pictures last, and gives them to the trackers."""
    if not has_journal(run.run_dir, run.trials):
        journal_of(run).flush()
    write_outputs(run.run_dir, run.history, run.options)
    remedy = f"the results are whole; to draw it again: {resume_command('search', run.run_dir)}"
    with warn_if_undrawn(run.console, str(run.run_dir / FRONT_PNG), remedy):
        write_front_picture(run.run_dir, run.history, run.options)
    with warn_if_undrawn(run.console, str(run.run_dir / REPORT), remedy):
        _write_last_report(run)
    if run.tracking is not None:
        run.tracking.finish(run.trials, is_complete=is_complete)


def _write_last_report(run: Run) -> None:
    """Writes the report; if that fails, deletes what is there, because that page says that the search still runs."""
    try:
        write_report(run.report_input(is_running=False))
    except Exception:
        (run.run_dir / REPORT).unlink(missing_ok=True)
        raise


def journal_of(run: Run) -> OptunaJournal:
    """Returns the Optuna journal, rewritten with the trials that have ended so far."""
    options, header = run.options, run.history.header
    about = {
        "command": " ".join(typed_words(header["command"])),
        "budget": options.describe_budget(),
        "space": run.space.name,
        "data": header["data"].get("summary"),
        "strategy": options.strategy,
        "seed": options.seed,
    }
    with writing(run.run_dir / JOURNAL_FILE):
        journal = OptunaJournal(run.run_dir, run.domain, options.objectives, about)
        for trial in run.trials:
            if trial.has_ended:
                journal.add(trial)
    return journal
