"""Every other command, from its options to its files: one module a command."""
