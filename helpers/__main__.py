"""`python -m helpers COMMAND …`: one entry for all commands; each is imported only when it is asked for."""

from __future__ import annotations

import importlib
import signal
import sys

COMMANDS = {
    "train": "train a system, select on validation, evaluate on test",
    "evaluate": "judge trained systems on a split",
    "predict": "label images with a trained system",
    "check": "is this machine ready for the course?",
    "notebooks": "execute notebooks and store their outputs",
    "scenes": "draw the embedded dataset",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command that the first word names. Returns its exit status; 2 for an unknown command."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in COMMANDS:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's stop is a Ctrl-C
        try:
            return importlib.import_module(f"helpers.commands.{words[0]}").main(words[1:]) or 0
        except KeyboardInterrupt:
            print("\ninterrupted: nothing is half written", file=sys.stderr)
            return 130
    lines = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    usage = f"usage: python -m helpers COMMAND …\n\ncommands:\n{lines}\n\npython -m helpers COMMAND --help lists its options."
    if words and words[0] in ("-h", "--help"):
        print(usage)
        return 0
    found = f"no command {words[0]!r}" if words else "no command"
    print(f"error: {found}\n{usage}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
