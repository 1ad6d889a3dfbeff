"""The command line with one change: workers run `faulty_job.run_job`. Takes the arguments of `cli.py`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

if __name__ == "__main__":
    from faulty_job import run_job

    import cli
    import trials.search

    trials.search.run_job = run_job
    sys.exit(cli.main(sys.argv[1:]))
