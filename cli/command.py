"""The command `clinvit`: finds the verb and the task, reads the options, runs, and turns errors into exit codes.

Exit code 0: done. 1: the run failed, or every case did. 2: the request or its data are wrong. 130: interrupted.
"""

import argparse
import contextlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from .. import __version__
from ..core.errors import RunError, UserError, one_line, printable
from ..core.platform import wait_briefly
from ..engine.launcher import requeued_when_warned
from ..tasks import load, names
from .named import refuse_hostile
from .parser import Parser

_NEGATIVE = re.compile(r"-(\.?\d|inf$|nan$)", re.IGNORECASE)
# Each is a module beside this one, with `SUMMARY`, `add_arguments(parser, task)` and `run(options)`.
VERBS = {
    "demo": "all stages on invented data, to see what it does",
    "check": "look at a data set and the machine before anything runs",
    "prepare": "a data set as downloaded -> manifest.csv (and decoded images)",
    "tile": "manifest.csv -> tile coordinates of every slide",
    "pretrain": "manifest.csv [+ tiles] -> encoder/",
    "extract": "manifest.csv [+ tiles] + encoder/ -> features of every slide, image or clip",
    "pool": "features of a slide's tiles -> one vector per slide, by mean, a trained model or a slide encoder",
    "retrieve": "manifest.csv + vectors -> the most alike cases of other patients, and how alike they are",
    "finetune": "manifest.csv [+ encoder/ or features] -> model/, predictions.csv",
    "learning-curve": "manifest.csv [+ encoder/] -> what more labels are worth, with the encoder and from scratch",
    "zero-shot": "encoder/ that was trained on reports + prompts -> model/, without a labelled image",
    "distil": "manifest.csv + one or more model/ -> a smaller model/",
    "compress": "a run folder -> the smallest and fastest model that is not worse by a margin",
    "predict": "model/ + files -> predictions.csv",
    "listen": "model/ + studies that a PACS sends -> a result each, in predictions.csv and back to the PACS",
    "triage": "predictions.csv -> worklist.csv, the urgent studies first",
    "evaluate": "predictions.csv -> report.html, report.json, metrics.csv",
    "compare": "two or more models on the same cases",
    "plan": "how many cases a study needs",
    "curate": "manifest.csv of an archive -> the cases that are worth pre-training on, and why not the others",
    "audit": "encoder/ or model/ + an archive -> what a release gives away of patients and sites",
    "acceptance": "a target, locked before, + predictions.csv -> met, not met or not enough cases",
    "contract": "a model that is deployed: inputs, thresholds, bounds of drift, rollback rule in one file",
    "monitor": "predictions of each month against the contract: in bounds, out of bounds since when, too few cases",
    "recalibrate": "model/ + a new site's predictions.csv -> a calibrated copy",
    "merge": "models of several hospitals, from one encoder -> one model, without their data",
    "reproduce": "a table of the papers: measured beside printed",
    "bags": "aggregators on a classical set of bags, cross-validated",
    "weights": "what a checkpoint is; checkpoint -> encoder/; public encoders by name",
    "export": "model/ or encoder/ -> timm, Hugging Face, ONNX, torch.export, model card",
    "sign": "a signature of a model or encoder folder, by a key of your own",
    "verify": "whether a signed folder is as signed, or an audit log is whole",
    "sbom": "the bill of materials of this installation (CycloneDX)",
    "completion": "a script that completes verbs, tasks and options in the shell",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    wait_briefly()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        options = parse(arguments)
        refuse_hostile(options)
        with requeued_when_warned(), contextlib.redirect_stdout(_Printable(sys.stdout)):
            options.run(options)
        return 0
    except UserError as error:
        return _fail(error, 2, debug)
    except RunError as error:
        return _fail(error, 1, debug)
    except KeyboardInterrupt as error:
        return _fail(error, 130, debug, "interrupted; repeat the command to continue where it stopped")
    except BrokenPipeError:
        # The reader of our output went away (`clinvit ... | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return _fail(error, 1, debug, f"{where}{error.strerror or error}")
    except Exception as error:
        words = " ".join(str(error).split())
        text = f"unexpected {type(error).__name__}: {words} (repeat with --debug for the traceback)"
        return _fail(error, 1, debug, text)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line.

    Args:
        arguments: Without the program's name.

    Returns:
        Its options, with `verb`, `task` (a `Task`, or None), `run` (the verb's function) and `rest`: what is left for
        the recipe.

    Raises:
        UserError: An unknown verb, task or option, or one that is missing.
    """
    if not arguments or arguments[0] not in VERBS:
        _top_parser().parse_args(arguments)
        raise UserError("the following arguments are required: VERB (see `clinvit --help`)")
    verb, *rest = arguments
    module = verb_module(verb)
    parser = verb_parser(verb, module, _task_of(module, rest))
    options, left = parser.parse_known_args(_with_negative_numbers(rest))
    _refuse_others(verb, module, options, left)
    if left and not getattr(module, "RECIPES", ""):
        raise UserError(f"unknown argument {left[0]!r} (see `{parser.prog} --help`)")
    options.verb, options.run, options.rest = verb, module.run, left
    if isinstance(getattr(options, "task", None), str):
        options.task = load(options.task) if options.task in names() else options.task
    return options


def verb_module(verb: str) -> ModuleType:
    """Return the module of a verb: `learning_curve` of `learning-curve`."""
    return importlib.import_module(f".{verb.replace('-', '_')}", __package__)


def _refuse_others(verb: str, module: ModuleType, options: argparse.Namespace, left: Sequence[str]) -> None:
    """Refuse options that this verb has for other tasks: they would be taken for keys of the recipe, or for unknown."""
    task = getattr(options, "task", None)
    if task not in names() or not hasattr(module, "TASKS"):
        return
    asked = [word.partition("=")[0] for word in left if word.startswith("--")]
    for other in names() if asked else ():
        known = verb_parser(verb, module, load(other))._option_string_actions
        for word in asked:
            if word in known:
                raise UserError(f"{word} is for {other}, not for {task}: leave it out.")


def verb_parser(verb: str, module: ModuleType, task: Any = None) -> Parser:
    """Return the parser of a verb, with the options that it has for a task."""
    prog = f"clinvit {verb}" + (f" {task.name}" if task is not None else "")
    more = getattr(module, "more_help", None)
    parser = Parser(prog, f"{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}.")
    module.add_arguments(parser, task)
    if more is not None:
        parser.more = lambda everything: more(parser, task, everything)
    parser.add_help_all()
    return parser


def _task_of(module: ModuleType, rest: Sequence[str]) -> Any:
    """Return the task that the options name, if the verb has one: the first word that is not an option's value."""
    known = getattr(module, "TASKS", None)
    if known is None:
        return None
    before = ["", *rest]
    words = [word for word, last in zip(rest, before) if not word.startswith("-") and not _waits(last)]
    return load(words[0]) if words and words[0] in names() else None


def _with_negative_numbers(words: Sequence[str]) -> list[str]:
    """Return the words with negative values joined to their options: argparse takes `-1e-3` for an option."""
    joined: list[str] = []
    for word in words:
        if joined and _waits(joined[-1]) and _NEGATIVE.match(word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _waits(word: str) -> bool:
    """Return whether a value may follow this word."""
    return word.startswith("--") and word != "--" and "=" not in word


def _top_parser() -> Parser:
    tasks = ", ".join(f"{name} ({load(name).summary})" for name in names())
    width = max(map(len, VERBS)) + 2
    lines = [f"  {verb:{width}}{words}" for verb, words in VERBS.items()]
    parser = Parser(
        "clinvit",
        "Pre-train one Vision Transformer on unlabelled clinical images, clips or slides, fine-tune it, and write a\n"
        "clinical report.\n\nverbs (`clinvit VERB TASK --help` shows the options):\n"
        + "\n".join(lines)
        + "\n\ntasks:\n"
        f"  {tasks}",
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="what to do")
    parser.add_argument("--version", action="version", version=f"clinvit {__version__}", help="show the version")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


class _Printable:
    """Standard output that prints control characters in ids and file names as escapes."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text))

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def _fail(error: BaseException, code: int, debug: bool, text: str = "") -> int:
    """Print one line on standard error (after the traceback, if that was asked for); return the exit code."""
    if debug:
        traceback.print_exception(error)
    print(f"clinvit: error: {one_line(text) or printable(error)}", file=sys.stderr)
    return code
