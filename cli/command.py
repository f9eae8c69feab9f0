"""The command `clinvit`: what each verb does. Imports are lazy, so that help is instant.

Exit code 0: done. 1: the run failed. 2: the request or its data are wrong.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import RunError, UserError, printable
from ..engine.launcher import requeued_when_warned
from ..tasks import NAMES, load
from .arguments import SLIDE_TASKS, build_parser
from .option_values import columns, layout_options, named_path, prevalence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        parser = build_parser()
        options, rest = parser.parse_known_args(arguments)
        if rest and "recipes" not in options:
            raise UserError(f"unknown argument {rest[0]!r} (see `clinvit {options.verb} --help`)")
        options.rest = [*rest, *["--run.profile=true"] * getattr(options, "profile", False)]
        with requeued_when_warned(), contextlib.redirect_stdout(_Printable(sys.stdout)):
            VERBS[options.verb](options)
        return 0
    except UserError as error:
        return _fail(error, 2, debug)
    except RunError as error:
        return _fail(error, 1, debug)
    except KeyboardInterrupt as error:
        return _fail(error, 1, debug, "interrupted; repeat the command to continue where it stopped")
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


class _Printable:
    """Standard output without what steers a terminal: ids and names of files are printed as they come."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text))

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def _demo(options) -> None:
    for name in NAMES if options.task == "all" else [options.task]:
        load(name).demo(options.out / name if options.task == "all" else options.out, options.seed)


def _check(options) -> None:
    import tempfile

    from ..datasets.quality.check import cohort
    from ..engine.run_folder import environment
    from ..stages.bottleneck import bottleneck
    from ..stages.leaks import add_leaks
    from ..stages.stages import MANIFEST, open_manifest, prepare_stage

    task, notes, warnings, files = load(options.task), [], [], options.files
    labels = options.labels.split(",") if options.labels else None
    with tempfile.TemporaryDirectory() as folder:
        if options.layout or (options.data.is_dir() and not (options.data / MANIFEST).is_file()):
            layout = {"layout": options.layout, "options": layout_options(options.option)}
            manifest, notes, warnings, lists_only = prepare_stage(task, options.data, Path(folder) / MANIFEST, **layout)
            if lists_only:
                warnings, files = [*warnings, "these are lists without files: no file was looked for."], None
        else:
            manifest = open_manifest(options.data, labels)
        manifest = manifest.with_labels(labels) if labels else manifest
        found = task.check(manifest, files, options.cache_px)
        add_leaks(found, manifest, task, cache_px=options.cache_px, encoder=options.encoder, pairs=options.duplicates)
        if options.recipe is not None and files is None:
            warnings.append(f"--recipe {options.recipe} was not timed: there are no files to read.")
        elif options.recipe is not None and not found.errors:
            found.facts += bottleneck(task, manifest, options.recipe)
    machine = environment()
    machine_text = f"torch {machine['versions']['torch']} on {machine['device']}, {machine['platform']}"
    print(cohort(manifest).to_string(), "(positive/known per label)", sep="\n", end="\n\n")
    marked = (
        ("ok", [*notes, *found.facts, machine_text]),
        ("warning", dict.fromkeys([*warnings, *found.warnings])),
        ("ERROR", found.errors),
    )
    for mark, texts in marked:
        for text in texts:
            print(f"{mark:8}{text}")
    if found.errors:
        raise UserError(f"{options.data}: {len(found.errors)} problem(s) found, listed above; mend them before a run.")
    print("\nNothing stands in the way.")


def _prepare(options) -> None:
    from ..datasets.loading.cache import build_cache
    from ..datasets.loading.loaders import reading_workers
    from ..stages.stages import CACHE, prepare_stage

    task = load(options.task)
    if options.cache_px and options.task in SLIDE_TASKS:
        raise UserError("--cache-px: slides are read tile by tile and never cached; leave it out.")
    if options.shards and not options.cache_px:
        raise UserError("--shards packs decoded files: say at which size, such as --cache-px 256.")
    manifest, notes, warnings, _ = prepare_stage(
        task, options.root, options.out, layout=options.layout,
        options=layout_options(options.option), resplit=options.seed if options.resplit else None,
        data_roots=options.data_root,
    )  # fmt: skip
    for note in notes:
        print(note)
    for warning in warnings:
        print(f"warning: {warning}")
    if options.cache_px:
        folder = options.out.parent / CACHE
        reader = task.CachedAs(options.cache_px, channels=options.channels)
        cache = build_cache(manifest.files(), folder, reader, reading_workers(options.workers, True))
        failed = [reason for reason in cache.reasons() if reason]
        print(f"{folder}: {len(cache) - len(failed)} files cached, {len(failed)} failed")
        for reason in failed[:20]:
            print(f"  {reason}")
        if note := cache.colour_note():
            print(f"note: {note}")
    if options.shards:
        from ..datasets.loading.shards.packing import pack

        index = pack(manifest, cache, options.shards)
        size = sum(size for _, size in index.shards) / 1e9
        print(f"{options.shards}: {len(index.places)} cases in {len(index.shards)} shards, {size:.2f} GB")
    counts = manifest.table["split"].value_counts()
    print(f"{options.out}: {len(manifest)} cases, " + ", ".join(f"{split} {n}" for split, n in counts.items()))


def _tile(options) -> None:
    from ..stages.stages import choose_recipe, open_manifest

    task = _recipe_task(options, "data", "out")
    recipe = choose_recipe(task.TILE, options.recipe, options.config, options.rest)
    _status(task.tile_slides(recipe, open_manifest(options.data, labels=()), options.out), options.out)


def _extract(options) -> None:
    from ..mil.extract import extract
    from ..stages.stages import choose_recipe, open_manifest

    task = _recipe_task(options, "data", "out", "tiles", "encoder")
    recipe = choose_recipe(task.EXTRACT, options.recipe, options.config, options.rest)
    manifest = open_manifest(options.data, labels=())
    _status(extract(recipe, manifest, options.tiles, options.out, options.encoder), options.out)


def _status(table, out: Path) -> None:
    counts = table["status"].value_counts()
    told = " + ".join(f"{counts.get(status, 0)} {status}" for status in ("ok", "failed", "open"))
    tiles = int(table["tiles"].sum()) if "tiles" in table else 0
    print(f"{out}: {len(table)} requested = {told} (status.csv); {tiles} tiles")


def _pretrain(options) -> None:
    from ..stages.stages import choose_recipe, pretrain_stage

    slides = options.task in SLIDE_TASKS
    task = _recipe_task(options, *([] if options.estimate else ["data", "out", *["tiles"] * slides]))
    _refuse(options, *(["cache"] if slides else ["tiles"]))
    recipe = choose_recipe(task.PRETRAIN, options.recipe, options.config, options.rest)
    if options.estimate:
        from ..stages.estimate import estimate_pretraining

        print(estimate_pretraining(recipe, _title(options), options.data, options.cases, slides))
        return
    _refuse(options, "cases", why="belongs to --estimate")
    encoder = pretrain_stage(recipe, options.data, options.out, options.cache, options.tiles, options.cache_gb)
    _say(f"encoder: {encoder}")


def _title(options) -> str:
    return f"{options.verb} {options.task}, recipe {options.recipe}"


def _finetune(options) -> None:
    from ..stages.stages import choose_recipe, finetune_stage

    slides = options.task in SLIDE_TASKS
    task = _recipe_task(options, *([] if options.estimate else ["data", "out", *["features"] * slides]))
    _refuse(options, *(["cache", "encoder"] if slides else ["features"]))
    recipe = choose_recipe(task.FINETUNE, options.recipe, options.config, options.rest)
    if options.estimate:
        from ..stages.estimate import estimate_finetuning

        if slides:
            raise UserError("--estimate is not for slides: an epoch over bags takes minutes.")
        print(estimate_finetuning(recipe, _title(options), options.data, options.cases, options.encoder))
        return
    _refuse(options, "cases", why="belongs to --estimate")
    model = finetune_stage(
        recipe,
        options.data,
        options.out,
        encoder=options.encoder,
        cache=options.cache,
        cache_gb=options.cache_gb,
        features=options.features,
        rule=options.threshold,
        calibrate=options.calibrate,
    )
    _say(f"model: {model}\npredictions: {options.out / 'predictions.csv'}")


def _predict(options) -> None:
    if options.task in SLIDE_TASKS:
        table = _predict_slides(options)
    else:
        _refuse(options, "features", "encoder", "tiff", "tile_geojson", "split")
        table = _predict_files(options)
    if table is None:
        return
    failed = table[table["status"] == "failed"]
    for _, row in failed.head(20).iterrows():
        print(f"failed: {row['reason']}", file=sys.stderr)
    print(f"{options.out}: {len(table)} requested = {len(table) - len(failed)} ok + {len(failed)} failed")


def _predict_alone(why: str) -> None:
    from ..stages.share import own_share

    if own_share().of > 1:
        raise UserError(f"{why} Predict with one process.")


def _predict_slides(options):
    from ..stages.slides.maps import Maps
    from ..stages.slides.predict import Request, predict_slides

    _refuse(options, "explain_method", "macula", "workers", "batch", "resume", "identifiers", "bf16")
    _predict_alone("slides are shared by several processes in `clinvit tile` and `clinvit extract`: extract first.")
    if options.features is None:
        raise UserError("--features is missing: the folder of the slides' features, or where to put them (--encoder).")
    if options.explain is None:
        _refuse(options, "tiff", "tile_geojson", why="belongs to --explain")
    return predict_slides(
        Request(
            options.model, options.inputs, options.out, options.features, options.encoder, options.explain,
            options.split, Maps(options.tiff, options.tile_geojson),
        )
    )  # fmt: skip


def _predict_files(options):
    from ..stages.predict import Request, predict_stage
    from ..stages.share import own_share

    batch, workers = options.batch or 32, options.workers or 1
    if options.macula is not None:
        task = load(options.task)
        if not hasattr(task, "predict_cascade"):
            raise UserError(f"--macula is the second model of the cascade of erdes, not of {options.task}.")
        _refuse(
            options, "explain", "explain_method", "resume", "bf16", why="is of one model: predict with each model alone"
        )
        _predict_alone("the cascade is not shared by several processes.")
        return task.predict_cascade(options.model, options.macula, options.inputs, options.out, batch, workers)
    if options.explain is None:
        _refuse(options, "explain_method", why="belongs to --explain")
    return predict_stage(
        Request(
            options.model, options.inputs, options.out, batch, workers, options.explain,
            options.explain_method, options.resume, options.identifiers, options.bf16, own_share(),
        )
    )  # fmt: skip


def _evaluate(options) -> None:
    _report(options, options.predictions, options.title)


def _compare(options) -> None:
    _report(options, [options.a, *options.others], "")


def _report(options, named: Sequence[str], title: str) -> None:
    from ..stages.evaluate import evaluate_stage

    predictions: dict[str, Path] = {}
    for name, path in map(named_path, named):
        if name in predictions:
            raise UserError(f"{predictions[name]} and {path} are both called {name!r}: name them, NAME=PATH.")
        predictions[name] = path
    metrics = evaluate_stage(
        predictions, options.out, split=options.split, data=options.data, rule=options.threshold,
        prevalence=prevalence(options.prevalence), subgroups=columns(options.subgroups), resamples=options.resamples,
        seed=options.seed, interval=options.interval, stratify=options.stratify,
        title=title or ", ".join(predictions),
    )  # fmt: skip
    print(*metrics["headline"], *(f"warning: {text}" for text in metrics["seen"]["warnings"]), sep="\n")
    print(f"report: {options.out / 'report.html'}")


def _bags(options) -> None:
    from ..mil.cross_validation import run_protocol
    from ..mil.recipe import AGGREGATORS

    names = options.aggregators.split(",") if options.aggregators else AGGREGATORS
    for name in names:
        if name not in AGGREGATORS:
            raise UserError(f"aggregator {name!r}: one of {', '.join(AGGREGATORS)}.")
    label, bag = (int(text) if text.isdigit() else text for text in (options.label, options.bag))
    run_protocol(
        options.table, options.out, names, label=label, bag=bag, folds=options.folds, repeats=options.repeats,
        seed=options.seed,
    )  # fmt: skip
    print((options.out / "table.md").read_text(encoding="utf-8"))


def _reproduce(options) -> None:
    from ..stages.reproduce import catalogue

    if options.list:
        print(catalogue.listing())
        return
    if options.table is None:
        raise UserError("name a table, such as thorax/main; `clinvit reproduce --list` shows all.")
    table = catalogue.find_table(options.table)
    weights: dict[str, list[Path]] = {}
    for text in options.weights:
        row, sign, path = text.partition("=")
        if not sign:
            raise UserError(f"--weights {text!r}: write ROW=PATH.")
        weights.setdefault(row, []).append(Path(path))
    from ..stages.reproduce.run import Request, reproduce

    folder, results = reproduce(
        Request(
            table, options.out, options.data, options.pretrain_data, options.rows.split(",") if options.rows else None,
            weights, options.phantoms, options.download, options.resamples, options.rest,
        )
    )  # fmt: skip
    _say(f"{(folder / 'table.md').read_text(encoding='utf-8')}\ntable: {folder / 'table.html'}")
    failed = [result.name for result in results if result.state == "failed"]
    if failed:
        raise RunError(f"{len(failed)} of {len(results)} rows failed: {', '.join(failed)}; why, stands in the table.")


def _weights(options) -> None:
    from ..stages.weights import convert_weights, inspect_weights

    if options.action == "inspect":
        _refuse(options, "out", "labels", "pool_ratio", why="is not for inspect")
        print(inspect_weights(options.file))
        return
    if options.out is None:
        raise UserError("weights convert needs --out FOLDER")
    labels = options.labels.split(",") if options.labels else None
    print(convert_weights(options.file, options.out, labels, options.pool_ratio))


def _export(options) -> None:
    from ..stages.export import export_stage

    print(*export_stage(options.folder, options.to, options.out, int8=options.int8, data=options.data), sep="\n")


def _recipe_task(options, *needed: str):
    """The task of a verb with recipes; prints the help, recipe included, if that was asked.

    Args:
        needed: Options that must be there.
    """
    if options.help:
        _recipe_help(options)
        raise SystemExit(0)
    if options.task not in options.tasks:
        raise UserError(
            f"task {options.task!r}: name one of {', '.join(options.tasks)}, as in `clinvit {options.verb} "
            f"{options.tasks[0]}`."
        )
    for name in needed:
        if getattr(options, name) is None:
            raise UserError(f"--{name} is missing (see `clinvit {options.verb} {options.task} --help`)")
    return load(options.task)


def _refuse(options, *names: str, why: str = "") -> None:
    """Refuse options that would be ignored."""
    for name in names:
        if getattr(options, name):
            raise UserError(f"--{name.replace('_', '-')} {why or f'is not for {options.task}'}: leave it out.")


def _recipe_help(options) -> None:
    from ..engine.recipe import recipe_parser

    print(options.parser.format_help())
    task = load(options.task if options.task in options.tasks else options.tasks[0])
    recipes = getattr(task, options.recipes.upper())
    print("recipes:")
    width = max(map(len, recipes)) + 2
    for name, make in recipes.items():
        print(f"  {name:{width}}{make.__doc__.splitlines()[0]}")
    default = recipes.get(options.recipe, next(iter(recipes.values())))()
    print(f"\nEvery value of the recipe can be changed; the defaults shown are those of {options.recipe!r}.")
    text = recipe_parser(default).format_help()
    print(text[text.index("\n\n") :] if "print_config" in text.split("\n\n")[0] else text)


def _say(text: str) -> None:
    """Print once, however many processes a run has."""
    from ..engine.run_folder import rank

    if rank() == 0:
        print(text)


def _fail(error: BaseException, code: int, debug: bool, text: str = "") -> int:
    """One line on standard error (after the traceback, if that was asked for); gives the exit code."""
    if debug:
        traceback.print_exception(error)
    print(f"clinvit: error: {printable(text or error)}", file=sys.stderr)
    return code


VERBS = {
    "demo": _demo,
    "check": _check,
    "prepare": _prepare,
    "tile": _tile,
    "pretrain": _pretrain,
    "extract": _extract,
    "finetune": _finetune,
    "predict": _predict,
    "evaluate": _evaluate,
    "compare": _compare,
    "bags": _bags,
    "reproduce": _reproduce,
    "weights": _weights,
    "export": _export,
}

if __name__ == "__main__":
    sys.exit(main())
