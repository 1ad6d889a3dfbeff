#!/usr/bin/env python3
"""The command line in a checkout: `python cli.py`. The code is `trials/command_line/main.py`."""

from __future__ import annotations

import sys

from trials.command_line.main import create_parser, main

__all__ = ["create_parser", "main"]

if __name__ == "__main__":
    sys.exit(main())
