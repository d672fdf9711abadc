"""The cases, one module per program."""
