"""The command line: one module per command, which declares its options and calls the code that runs it.

`main.py` combines the commands. `shared_options.py` declares options of several commands, and `argument_types.py`
parses values. Heavy modules are imported when a command runs, so that `--help` stays fast.
"""
