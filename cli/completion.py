"""`clinvit completion`: a script for the shell that completes verbs, tasks and options."""

import argparse
from typing import Any

from ..tasks import load, names
from .parser import Parser

SUMMARY = "print a script that completes verbs, tasks and options in the shell"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "shell", choices=["bash", "zsh", "tcsh"],
        help="bash: clinvit completion bash > ~/.local/share/bash-completion/completions/clinvit",
    )  # fmt: skip


def run(options) -> None:
    """Print the script."""
    import shtab

    print(shtab.complete(_whole_parser(), options.shell))


def _whole_parser() -> argparse.ArgumentParser:
    """Return one parser of all verbs, each with the options of all its tasks."""
    from .command import VERBS, verb_module, verb_parser

    whole = argparse.ArgumentParser("clinvit")
    verbs = whole.add_subparsers()
    for verb, words in VERBS.items():
        module = verb_module(verb)
        tasks = map(load, names()) if hasattr(module, "TASKS") else [None]
        one, known = verbs.add_parser(verb, help=words), {"-h", "--help"}
        for parser in (verb_parser(verb, module, task) for task in tasks):
            for action in parser._actions:
                if action.dest not in known and not known & set(action.option_strings):
                    known |= {*action.option_strings, action.dest}
                    one._add_action(action)
    return whole
