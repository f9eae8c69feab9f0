"""Parsers of the command line: one-line errors, a help of the options that people use, `--help-all` for the rest."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from ..core.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and a hint, and whose help leaves out what few people need.

    Args:
        prog: As it is called: `clinvit pretrain thorax`.
        description: What the verb does.
        more: Gives what the help says after the options; takes whether all is asked for.
    """

    def __init__(self, prog: str, description: str, more: Callable[[bool], str] = lambda everything: ""):
        super().__init__(
            prog, description=description, add_help=False, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        self.more = more
        self._advanced: list[argparse.Action] = []
        self.add_argument("-h", "--help", action=_Help, everything=False, help="show this help")

    def add_argument(self, *names: str, advanced: bool = False, **settings: Any) -> argparse.Action:  # type: ignore[override]
        """Add an argument; an `advanced` one is shown by `--help-all` alone."""
        action = super().add_argument(*names, **settings)
        if advanced:
            self._advanced.append(action)
        return action

    def error(self, message: str) -> NoReturn:
        """Raise the message as a UserError."""
        raise UserError(f"{message} (see `{self.prog} --help`)")

    def full_help(self, everything: bool) -> str:
        """Return the help: of all options, or without the advanced ones."""
        shown = {action: action.help for action in self._advanced}
        if not everything:
            for action in shown:
                action.help = argparse.SUPPRESS
        try:
            text, more = self.format_help(), self.more(everything)
        finally:
            for action, words in shown.items():
                action.help = words
        if not everything and (shown or more):
            more += "\n`--help-all` shows every option.\n"
        return f"{text}\n{more}" if more else text

    def add_help_all(self) -> None:
        """Add `--help-all`."""
        self.add_argument("--help-all", action=_Help, everything=True, help="show every option")


class _Help(argparse.Action):
    """Prints the parser's help and ends."""

    def __init__(self, option_strings: list[str], dest: str, everything: bool, help: str):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)
        self.everything = everything

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        print(parser.full_help(self.everything))
        parser.exit()
