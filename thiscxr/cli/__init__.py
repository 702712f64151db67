"""The command line: one click group, one short function a command.

Heavy imports are inside the commands, so that `thiscxr --help` answers at once. stdout carries results, stderr carries
chatter.
"""

import errno
import logging
import os
import sys
import traceback

import click

from thiscxr.cli import data, direction, latent, sampling, scoring, showing, training  # noqa: F401 - each adds its commands to the group
from thiscxr.cli.options import group

__all__ = ["group", "main"]


def main(*command: str) -> None:
    """Run the command line; `command` is put in front of the arguments. One line and exit code 1 on a failure, 2 on a
    usage error."""
    debug = "--debug" in sys.argv
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        group.main(args=[*command, *sys.argv[1:]], prog_name="thiscxr", standalone_mode=False)
    except click.ClickException as error:
        if speaks():
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if not speaks():
            pass
        elif debug:
            traceback.print_exc()
        elif isinstance(error, ValueError | OSError | FloatingPointError):
            advice = (
                ("; free some space and run the same command again")
                if getattr(error, "errno", None) == errno.ENOSPC
                else ""
            )
            print(f"error: {' '.join(str(error).split())}{advice}", file=sys.stderr)
        else:
            print(
                f"error: {type(error).__name__}: {error} (a fault of thiscxr: please report it, with --debug)",
                file=sys.stderr,
            )
        sys.exit(1)


def speaks() -> bool:
    """Return whether this process reports a failure: alone, or the first of torchrun's processes to meet it."""
    if "RANK" not in os.environ:
        return True
    from thiscxr.train.team import first_to_fail

    return first_to_fail()
