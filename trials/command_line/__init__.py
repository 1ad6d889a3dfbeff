"""What users type: one module per command, which declares its options and calls what runs it.

`main.py` puts the commands together. `shared_options.py` has the options that several of them share, and
`argument_types.py` turns words into values. What is heavy is imported where a command runs: `--help` stays light.
"""
