"""A paper's table as data: rows made of steps, metrics, and the metrics that the paper printed.

Each task lists its tables in `tasks/<task>/tables.py` as `TABLES`, a dict of name to `Table`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from .work import Work

if TYPE_CHECKING:
    from ...finetune.start_head import StartHead


@dataclass(frozen=True)
class Printed:
    """What the paper printed.

    Attributes:
        value: In the unit of the metric (shares in 0..1); None where it is not known to us.
        source: Where it is printed (table, page, README); empty where the table's own source says it.
    """

    value: float | None
    source: str = ""


@dataclass(frozen=True)
class Metric:
    """One column of metrics.

    Attributes:
        key: What is measured, as `metrics.py` names it: `macro_auroc`, `auroc`, `sensitivity`, ..., or the name of a
            metric that a step writes (`metrics.json`), such as `froc`, `peak_memory_gib`, `step_seconds`.
        words: Heading of the column.
        digits: Decimals that the paper prints, of the value itself (82.3 % is 0.823: 3).
        how: How value and interval are computed, in words, for the page.
        percent: Shown as per cent.
        cut_off: The paper cuts further decimals off instead of rounding.
        counted: Counted, not estimated: it needs no interval to be compared.
    """

    key: str
    words: str
    digits: int
    how: str
    percent: bool = False
    cut_off: bool = False
    counted: bool = False

    def number(self, value: float) -> str:
        """Return a value as the paper prints it; an en dash where it is undefined."""
        if math.isnan(value):
            return "–"
        return f"{100 * value:.{max(0, self.digits - 2)}f} %" if self.percent else f"{value:.{self.digits}f}"

    def printed(self, metric: Printed | None) -> str:
        """Return the paper's value, or that it is not known."""
        return "not known" if metric is None or metric.value is None else self.number(metric.value)


@dataclass(frozen=True)
class TestList:
    """The test cases that a paper's metrics are of.

    Attributes:
        cases: How many.
        ids: `ids_fingerprint` of their ids as the layout names them; empty where these are not known to us.
    """

    __test__: ClassVar[bool] = False  # pytest takes classes named so for tests

    cases: int
    ids: str = ""


@dataclass(frozen=True)
class Step:
    """One stage of a row. A subclass says what `run` does.

    Attributes:
        key: Short name, unique to recipe, labels and start: rows with the same key share the step, and it runs once.
        recipe: Gives the recipe for the real data.
    """

    kind: ClassVar[str] = ""  # by which later steps of the row find this one's folder
    trains: ClassVar[str] = ""  # which given weights replace it: "encoder", "model", or neither
    reads: ClassVar[tuple[str, ...] | None] = None  # kinds of earlier steps whose results it reads; None for all

    key: str
    recipe: Callable[[], Any]

    def run(self, work: Work) -> None:
        """Write into `work.out` what the next step reads; the last step writes `predictions.csv` or `metrics.json`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pretrain(Step):
    """Pre-training on `work.data` without labels: `encoder/`. Of slides on the tiles of an earlier `Tile`."""

    kind = "pretrain"
    reads = ("tile",)
    trains = "encoder"

    def run(self, work: Work) -> None:
        from ..pretrain import pretrain_stage

        pretrain_stage(work.recipe, work.data, work.out, work.cache, tiles=work.before.get("tile"))


@dataclass(frozen=True)
class Finetune(Step):
    """Fine-tuning of images and clips: `model/` and `predictions.csv` (validation and test).

    Attributes:
        head: Which classes of the given checkpoint's head the labels are; None to learn a new head.
        as_is: A checkpoint with such a head is a whole model: it is evaluated, and not trained further.
        encoder: `pretrain` (the encoder of the row's own pre-training), `none` (from scratch), `weights` (must be given
            with `--weights`), `timm:NAME` (given with `--weights`, or fetched with `--download`), or words for a
            checkpoint that must be given.
    """

    kind = "finetune"
    reads = ("pretrain",)
    trains = "model"

    encoder: str = "pretrain"
    head: "StartHead | None" = None
    as_is: bool = False

    def run(self, work: Work) -> None:
        from ..finetune import finetune_stage

        encoder = work.encoder(self.encoder, getattr(work.recipe, "network", "vit"))
        finetune_stage(
            work.recipe, work.data, work.out, encoder=encoder, cache=work.cache, rule=work.rule, head=self.head
        )


@dataclass(frozen=True)
class Tile(Step):
    """Slides: coordinates of the tiles on tissue."""

    kind = "tile"
    reads = ()

    def run(self, work: Work) -> None:
        from ..data import open_manifest
        from ..slides.tile import tile_slides

        tile_slides(work.recipe, open_manifest(work.data, labels=()), work.out)


@dataclass(frozen=True)
class Extract(Step):
    """Slides: features of all tiles, by an encoder as for `Finetune` (a `timm:NAME` needs `--download` too)."""

    kind = "extract"
    reads = ("tile", "pretrain")

    encoder: str = "pretrain"

    def run(self, work: Work) -> None:
        from ...mil.extract import extract
        from ..data import open_manifest

        manifest = open_manifest(work.data, labels=())
        extract(work.recipe, manifest, work.before["tile"], work.out, work.tile_encoder(self.encoder))


@dataclass(frozen=True)
class Mil(Step):
    """Slides: an aggregator on the features of an earlier `Extract`: `model/` and `predictions.csv`."""

    kind = "mil"
    reads = ("extract",)
    trains = "model"

    def run(self, work: Work) -> None:
        from ..finetune import finetune_stage

        finetune_stage(work.recipe, work.data, work.out, features=work.before["extract"], rule=work.rule)


@dataclass(frozen=True)
class Measure(Step):
    """Measures what a step costs, or metrics that no predictions table holds: `metrics.json`.

    Attributes:
        measure: Takes the work, gives metrics by metric key: numbers, or estimates with an interval.
        data: Whether it needs the data set.
    """

    kind = "measure"

    measure: Callable[[Work], Mapping[str, Any]] = dict
    data: bool = False

    def run(self, work: Work) -> None:
        from .metrics import write_metrics

        write_metrics(work.out, self.measure(work))


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: Short name for `--rows` and `--weights`, such as `vit-s-xrays`.
        words: What the row is, as the paper writes it.
        steps: In their order; empty for a row that is printed in the paper and not built here (say why in `note`).
        paper: Metric key to the paper's value.
        labels: Labels to learn; None for all of the manifest.
        note: What the reader should know.
    """

    name: str
    words: str
    steps: tuple[Step, ...]
    paper: Mapping[str, Printed]
    labels: tuple[str, ...] | None = None
    note: str = ""

    def needs(self) -> str:
        """Return the checkpoint that the row cannot do without, in words; empty where it trains everything itself."""
        asked = [step.encoder for step in self.steps if isinstance(step, Finetune | Extract)]
        return next((encoder for encoder in asked if encoder not in ("pretrain", "none")), "")


def printed_row(name: str, words: str, metrics: Sequence[Metric], values: Sequence[float | None], note: str) -> Row:
    """Return a row that is printed and not built here.

    Args:
        name: Short name.
        words: What the row is.
        metrics: Columns.
        values: The printed metrics, in the order of the columns; None where one is not printed.
        note: Why it is not built.
    """
    paper = {metric.key: Printed(value) for metric, value in zip(metrics, values, strict=True) if value is not None}
    return Row(name, words, (), paper, note=note)


@dataclass(frozen=True)
class Table:
    """One table of a paper.

    Attributes:
        name: `task/table`, such as `thorax/main`.
        title: Heading.
        source: The paper and where the metrics come from.
        task: Package below `clinvit.tasks` that prepares the data.
        data: What data set it wants, in words; empty where none of its rows measures one.
        layout: Layout of a data set as downloaded, as `clinvit prepare --layout` names it.
        metrics: Columns.
        rows: Rows, in the paper's order.
        phantoms: Writes invented data in the real layout into a folder and gives the manifest; None where no row is
            built.
        rule: Rule for thresholds on validation; the paper of ERDES scores at `0.5`.
        unit: What a case is: image, clip, slide.
        notes: What to bear in mind when measured and printed values differ, a sentence each.
        options: Options of the layout.
        test: The paper's test cases; None where they are not known to us.
    """

    name: str
    title: str
    source: str
    task: str
    data: str
    layout: str
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    phantoms: Callable[[Path], Path] | None = None
    rule: str = "youden"
    unit: str = "image"
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    test: TestList | None = None
