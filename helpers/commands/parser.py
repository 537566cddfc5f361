"""A command line from options classes: flags, types, ranges, defaults and help come from their fields."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
import types
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_args, get_origin

from helpers.systems.options import Options, Spec


def parse(
    argv: Sequence[str],
    command: str,
    about: str,
    *classes: type[Options],
    usage: str = "",
) -> list[Any]:
    """One instance of each class. command: as in `python -m helpers COMMAND`; usage: of what comes after it.

    --help shows the options marked as basic, --help-all every option. What is wrong ends the program with status 2
    and a message; an option that is not there is refused with those that are.
    """
    full = "--help-all" in argv
    p = argparse.ArgumentParser(
        prog=f"python -m helpers {command}",
        usage=f"python -m helpers {command} {usage}".rstrip() + " [options]",
        description=about,
        formatter_class=_Formatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        add_help=False,
    )
    p.add_argument("-h", "--help", "--help-all", action="help", help=argparse.SUPPRESS)
    specs = [spec for cls in classes for spec in cls.specs() if spec.flag or spec.about["metavar"]]
    if not full and not all(spec.about["basic"] for spec in specs):
        p.epilog = "--help-all lists every option."
    groups = {heading: p.add_argument_group(heading) for heading in dict.fromkeys(s.heading for s in specs)}
    for spec in specs:
        _add(groups[spec.heading], spec, shown=full or spec.about["basic"])
    values, rest = p.parse_known_args(argv)
    if rest:
        flags = " ".join(spec.flag for spec in specs if spec.flag)
        unknown = [word for word in rest if word.startswith("-")] or rest
        listed = textwrap.fill(
            flags, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
        )
        p.error(f"there is no option {' '.join(unknown)} here; there are\n{listed}")
    found = vars(values)
    try:
        return [cls(**{s.name: found[s.name] for s in cls.specs() if s.name in found}) for cls in classes]
    except ValueError as error:
        p.error(str(error))


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(shutil.get_terminal_size().columns, 112))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction) and action.const:  # off unless it is said
            return action.option_strings[0]
        return super()._format_action_invocation(action)


def _add(group: Any, spec: Spec, *, shown: bool) -> None:
    """One option. It has no default here: what is not said is left to the class."""
    kinds = get_args(spec.type) if isinstance(spec.type, types.UnionType) else (spec.type,)
    kind, many = kinds[0], get_origin(kinds[0]) is tuple
    how: dict[str, Any] = {"help": _help(spec, kind) if shown else argparse.SUPPRESS}
    if kind is bool:
        switch = group.add_argument(spec.flag, dest=spec.name, action=argparse.BooleanOptionalAction, **how)
        switch.const = spec.default is False
        return
    how["metavar"] = spec.about["metavar"] or _metavar(spec, get_args(kind)[0] if many else kind)
    how["type"] = _converter(spec, get_args(kind)[0] if many else kind)
    if many:
        how |= {"nargs": "+", "action": _Tuple}
    if spec.flag:
        group.add_argument(spec.flag, dest=spec.name, required=spec.default is MISSING, **how)
    else:
        group.add_argument(spec.name, **how)


class _Tuple(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, tuple(values))


def _metavar(spec: Spec, kind: type) -> str:
    rule = spec.about["rule"]
    if rule is not None and rule.choices:
        return "{" + ",".join(rule.choices) + "}"
    return {int: "N", float: "X", Path: "PATH"}.get(kind, "NAME")


def _help(spec: Spec, kind: type) -> str:
    text, default = spec.about["help"], spec.default
    if default is None or default is MISSING or "(default" in text or (kind is bool and not default):
        return text
    return f"{text} (default: {'yes' if default is True else default})"


def _converter(spec: Spec, kind: type) -> Any:
    rule = spec.about["rule"]

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            wanted = rule.text if rule else {int: "a whole number", float: "a number"}[kind]
            raise argparse.ArgumentTypeError(f"{text} must be {wanted}") from None
        if kind is Path and not text:
            raise argparse.ArgumentTypeError("a path is missing: it is empty")
        if rule is not None and not rule.holds(value):
            raise argparse.ArgumentTypeError(f"{text} must be {rule.text}")
        return value

    return convert


def printable(text: str) -> str:
    """Text of others for a terminal: what could move its cursor or change its colours is shown as \\x1b and the like."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def fail(error: BaseException) -> int:
    """Print what the user can fix as one line; the exit status."""
    print(f"error: {printable(str(error))}", file=sys.stderr)
    return 1
