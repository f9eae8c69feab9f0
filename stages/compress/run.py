"""The stage `compress`: what a model may become, tried from the smallest and fastest on, until one is not worse."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...compress.variants import METHODS, Variant, variants_of
from ...core.alone import folder_alone
from ...core.documents import read_json
from ...core.errors import UserError
from ...core.files import copy_folder, file_sha256, write_json
from ...datasets.manifest.seen import CHOSEN_ON, PRETRAINED_ON, TRAINED_ON, read_hashes, save_hashes, write_hashes
from ...datasets.manifest.tables import write_predictions
from ...eval.statistics.questions import NON_INFERIORITY, Margin
from ...finetune.model import ModelCard, save_model
from ...finetune.out_of_distribution import RECORD, write_limit
from ..export import facts
from ..exported import FACTS, graph_facts
from ..exported_limit import write_limits
from ..finetune import thresholds_on
from ..graphs import require_onnx
from ..model_card import write_model_card
from .forms import ONNX, TARGETS
from .judge import judge
from .networks import Networks
from .opened import open_run
from .output import compression_facts, write_output
from .result import Compressed, Try

TRIES, MEASURED, MODEL = "tries", "measured.json", "model"


@dataclass(frozen=True)
class Request:
    """What is asked of a compression.

    Attributes:
        run: Run folder of the model.
        out: Folder to write. Repeating the command goes on there.
        margin: The largest loss of AUROC of a finding that does not matter.
        data: Manifest or its folder; None for the one in the run's command.
        target: `onnx` (a graph) or `torch` (a model folder).
        methods: Of `compress.variants.METHODS`.
        epochs: Of each training; None for a third of the model's own.
        cache: Folder of decoded files and of the model's answers; None as of `cache_place`.
    """

    run: Path
    out: Path
    margin: float
    data: Path | None = None
    target: str = ONNX
    methods: tuple[str, ...] = METHODS
    epochs: int | None = None
    cache: Path | None = None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UserError: Says which, and what to do.
        """
        Margin(NON_INFERIORITY, self.margin)
        if self.target not in TARGETS:
            raise UserError(f"--target {self.target!r}: one of {', '.join(TARGETS)}.")
        for name in self.methods:
            if name not in METHODS:
                raise UserError(f"--methods {name!r}: of {', '.join(METHODS)}.")
        if not self.methods or (self.target != ONNX and set(self.methods) == {"int8"}):
            raise UserError("--methods: none that makes a network smaller; int8 is for --target onnx.")
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"--epochs {self.epochs}: a whole number from 1 on.")


def compress_stage(request: Request) -> Compressed:
    """Try smaller networks from the smallest and fastest on; keep the first that loses less than the margin.

    Size and speed of all are measured first, for they do not depend on what is learned: the order is that of their
    product, and nothing is trained that a better one makes needless. Beside `model/`, `onnx/` and `predictions.csv` the
    folder holds `compress.csv`, `compress.json` and `compress.html`.

    Raises:
        UserError: The request makes no sense, or see `open_run`.
        DataError: See `open_run`.
    """
    request.check()
    if request.target == ONNX:
        require_onnx()
    opened = open_run(request.run, request.data)
    if request.out.resolve() in (opened.run.resolve(), opened.model.resolve()):
        raise UserError(f"--out {request.out}: the folder of the model itself; name another.")
    epochs = request.epochs or max(1, round(opened.recipe.optim.epochs / 3))
    with folder_alone(request.out):
        int8 = request.target == ONNX and "int8" in request.methods
        networks = Networks(opened, request.out / TRIES, request.target, int8, epochs, request.cache)
        tries = _tried(_in_order(networks, request), networks, request.margin)
        chosen = next(each for each in tries if each.passed or each is tries[-1])
        confirmed = None
        if not chosen.whole and len(opened.predictions.rows("test").scored()):
            confirmed = judge(networks.predictions(chosen), opened.predictions, request.margin, "test")
        found = Compressed(
            tuple(tries), chosen, confirmed, opened.rare, request.margin, request.target, epochs, request.out
        )
        _keep(found, networks)
        write_output(found, opened)
    return found


def _in_order(networks: Networks, request: Request) -> list[Try]:
    """Return all forms, those of the largest gain first, without such as gain nothing; the model itself is the last.

    What was measured here before is taken again: the order is the same when a command is repeated.
    """
    opened = networks.opened
    variants = variants_of(opened.card, request.methods)
    asked = {
        "model": file_sha256(opened.model / ModelCard.weights_file),
        "target": request.target,
        "int8": networks.int8,
        "variants": [asdict(variant) for variant in variants],
    }
    file = networks.folder / MEASURED
    stored = read_json(file, remedy="Remove it, to measure anew.") if file.is_file() else {}
    if stored.get("asked") != asked:
        print(f"measuring size and speed of {len(variants)} networks", flush=True)
        stored = {"asked": asked, "measured": networks.measured(variants)}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, stored)
    return _ranked(variants, stored["measured"])


def _ranked(variants: Sequence[Variant], measured: Sequence[dict]) -> list[Try]:
    """Return forms by their gain, what gains nothing left out, the model itself last."""
    by_name = {variant.name: variant for variant in variants}
    forms = [
        Try(by_name[row["variant"]], row["form"], row["bytes"], row["rate"], row["parameters"], 1.0) for row in measured
    ]
    whole = next(each for each in forms if each.whole)
    forms = [replace(each, gain=whole.bytes / each.bytes * each.rate / whole.rate) for each in forms if not each.whole]
    return [*sorted((each for each in forms if each.gain > 1), key=lambda each: -each.gain), whole]


def _tried(tries: Sequence[Try], networks: Networks, margin: float) -> list[Try]:
    """Return the same, judged on validation up to the first that passes; the model's own AUROC stands beside it."""
    done: list[Try] = []
    for number, each in enumerate(tries, start=1):
        if not any(one.passed for one in done):
            print(f"{number} of {len(tries)}, gain {each.gain:.2f}: {each.words}", flush=True)
            judged = judge(networks.predictions(each), networks.opened.predictions, margin, "val")
            each = replace(each, judged=judged)
            print(f"{each.name}: {each.verdict}", flush=True)
        elif each.whole:
            full = networks.opened.predictions
            each = replace(each, judged=judge(full, full, margin, "val"))
        done.append(each)
    return done


def _keep(found: Compressed, networks: Networks) -> None:
    """Write the chosen model, its predictions, its graph and what must go with that."""
    out, chosen = found.folder, found.chosen
    (network, card), folder = networks.network(chosen.variant), networks.model(chosen.variant)
    table = networks.predictions(chosen)
    card = replace(card, compression=compression_facts(found, networks.opened))
    model = out / MODEL
    model.mkdir(exist_ok=True)
    for name in (TRAINED_ON, PRETRAINED_ON):
        save_hashes(model / name, read_hashes(folder / name))
    write_hashes(model / CHOSEN_ON, table.rows("val").table["id"])  # the choice among the tries at least
    save_model(model, network, card)
    if (limit := networks.limit(chosen.variant)) is not None:
        write_limit(model, limit, model / card.weights_file)  # merged, it gives the features that this is from
    write_predictions(out / "predictions.csv", table.table)
    if found.target == ONNX:
        copy_folder(networks.graph(chosen).parent, out / "onnx")
        val = table.rows("val").scored()
        own = card if card.exclusive or not len(val) else replace(card, thresholds=thresholds_on(val, networks.rule()))
        said, watched = facts(model, own) | {"graphs": graph_facts(out / "onnx")}, networks.form_limit(chosen)
        if isinstance(watched, str):
            said[RECORD] = {"none": watched}
        elif watched is not None:
            said[RECORD] |= write_limits(out / "onnx", {networks.graph(chosen).name: watched})
        write_json(out / "onnx" / FACTS, said)
    write_model_card(model, card, out)
