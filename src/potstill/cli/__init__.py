"""The command line."""

from potstill.cli.commands import app, main

__all__ = ["app", "main"]
