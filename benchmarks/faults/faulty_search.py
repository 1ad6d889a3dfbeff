"""The command line with one change: workers run `faulty_job.FaultyJobRunner`. Takes the arguments of `cli.py`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    import cli
    import trials.search.search
    from benchmarks.faults.faulty_job import FaultyJobRunner

    vars(trials.search.search)["JobRunner"] = FaultyJobRunner
    sys.exit(cli.main(sys.argv[1:]))
