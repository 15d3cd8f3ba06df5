"""The command line: runs a command, and says what went wrong. No logic of its own."""

from __future__ import annotations

import os
import sys

import typer

from agentmem import commands_cap, commands_jobs, commands_memory, commands_model, commands_reflect, commands_store
from agentmem.cli_options import app
from agentmem.errors import AgentMemError, ConfigError, InvalidInputError, UnknownNameError

# They add themselves to the application when they are imported.
COMMANDS = (commands_memory, commands_store, commands_reflect, commands_jobs, commands_model, commands_cap)


def fail(error: AgentMemError) -> int:
    """Say what went wrong on standard error; the exit code."""
    typer.echo(f"error: {error}", err=True)
    wrong_option = isinstance(error, ConfigError) and not isinstance(error, InvalidInputError)
    wrong_name = isinstance(error, UnknownNameError) and error.kind in ("backend", "embedder", "strategy")
    return 2 if wrong_option or wrong_name else 1


def main() -> None:
    """The console script."""
    # One query at a time: the tokenizers' own threads only make noise about forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except AgentMemError as e:
        sys.exit(fail(e))
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing to say, and nothing to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
