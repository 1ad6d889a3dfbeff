"""`python -m sret_nas` is the command line. This is the one module of this package that knows of `trials`."""

from __future__ import annotations

import sys

from sret_nas.trials.command_line.main import main

if __name__ == "__main__":
    sys.exit(main())
