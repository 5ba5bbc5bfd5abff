"""The program: reads the command line, runs one command, turns errors into sentences and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..errors import PackError
from .arguments import make_parser
from .console import Console, sentences
from .train import INTERRUPTED

BAD_INPUT = 2


def main(words: Sequence[str] | None = None) -> int:
    """The exit code of one command: 0 done, 2 bad input, 130 stopped by Ctrl-C."""
    words = list(sys.argv[1:] if words is None else words)
    console = Console("--json" in words)
    with sentences():
        try:
            options = make_parser().parse_args(words)
            options.command_line = words
            return int(options.run(options, console))
        except PackError as error:
            console.fail(error)
            return BAD_INPUT
        except KeyboardInterrupt:
            console.say("stopped before the end; what was asked for has not been written.")
            return INTERRUPTED
