"""What each column of a person's table is taken for, and why: a label, a fact of the case, or nothing."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...core.errors import DataError
from .cells import UNKNOWN_CELLS, as_numbers, nearest
from .tables import FACTS, is_covariate

PRESENT = frozenset(
    "1 true t yes y ja j oui si sí sim da tak да 是 有 pos positive positiv positif positivo present présent presente "
    "detected vorhanden nachgewiesen + x ✓ ✔ checked".split()
)
ABSENT = frozenset(
    "0|false|f|no|n|nein|non|não|nao|nie|нет|否|无|無|neg|negative|negativ|négatif|negativo|absent|ausente|fehlt|"
    "nicht vorhanden|not present|not detected|undetected|nicht nachgewiesen|unchecked".split("|")
)
UNSURE = frozenset(
    "uncertain unsure equivocal indeterminate possible probable unclear unklar fraglich unsicher borderline".split()
)
# Words by which a label's cell says that nobody knows, beside those of every empty cell.
MISSING = frozenset(
    "unknown|unk|missing|not known|not available|not recorded|not reported|not applicable|nd|n.d.|k.a.|k. a.|unbekannt|"
    "keine angabe|inconnu|non renseigné|desconocido|sconosciuto".split("|")
)
BLANKS = ("unknown", "zeros")
POLICIES = {"unknown": np.nan, "ones": 1.0, "zeros": 0.0}
ALIASES = {
    "path": (
        "path", "file", "filename", "file name", "filepath", "file path", "image", "image path", "imagepath",
        "image file", "image name", "img", "img path", "image index", "dateiname", "datei", "bild", "pfad", "video",
        "clip", "slide", "fichier", "archivo", "ruta", "imagen",
    ),
    "patient": (
        "patient", "patient id", "patientid", "patient nr", "patient no", "patient number", "patientennummer",
        "patienten id", "patienten nr", "pat id", "pat nr", "pid", "subject", "subject id", "mrn", "person id",
        "paciente", "id paciente", "paciente id", "id patient", "paziente",
    ),
}  # fmt: skip
_SAME_FACT = {
    "sex": ("gender", "geschlecht", "geschl", "patient sex", "patient gender", "sexe", "sexo"),
    "age": ("alter", "patient age", "age years", "patientenalter", "âge", "edad"),
    "view": ("view position", "viewposition", "projection", "projektion"),
    "study": ("study id", "study uid", "studyid", "studyuid", "study instance uid", "studyinstanceuid", "study number"),
    "site": ("hospital", "institution", "center", "centre", "klinik"),
}
_CASE = ("case", "case id", "caseid", "case number", "fall", "fallnummer", "fall nr", "fallid", "fall id")
_SEXES = {
    **dict.fromkeys(
        ("m", "male", "man", "männlich", "mann", "mas", "masculin", "homme", "h", "hombre", "masculino"), "M"
    ),
    **dict.fromkeys("f female woman w weiblich frau feminin femme mujer femenino".split(), "F"),
}
_ODD_SHARE = 0.05  # of cells that are no label's, above which a column is no label


class Column(NamedTuple):
    """What a column of a person's table is taken for.

    Attributes:
        name: As in the table, or '' of none.
        taken: `path`, `id`, `patient`, `split`, `class`, `label`, `fact`, `box` or `left out`.
        why: For a person, with counts.
    """

    name: str
    taken: str
    why: str


def plain_name(name: str) -> str:
    """Return a name without capitals, signs and doubled blanks."""
    text = unicodedata.normalize("NFC", name).casefold()
    return " ".join(re.findall(r"[^\W_]+", text))


def joined_name(name: str) -> str:
    """Return a name as `plain_name` does, in one word: `Pat-Nr.`, `pat nr` and `PatNr` are the same."""
    return plain_name(name).replace(" ", "")


def alias(key: str, columns: Sequence[str]) -> str | None:
    """Return the one column whose name says that it is the `key` (`path` or `patient`), or None."""
    names = set(map(joined_name, ALIASES[key]))
    found = [column for column in columns if joined_name(column) in names]
    return found[0] if len(found) == 1 else None


def fact(name: str) -> str | None:
    """Return the fact that a column holds (`Geschlecht`: `sex`), or None."""
    word = joined_name(name)
    own = next((key for key in FACTS if joined_name(key) == word), None)
    return own or next((key for key, names in _SAME_FACT.items() if word in map(joined_name, names)), None)


def is_case(name: str) -> bool:
    """Return whether a column names the case (an eye, a biopsy) that images belong to; one of 0 and 1 is a label."""
    return joined_name(name) in map(joined_name, _CASE)


def fact_cells(key: str, cells: pd.Series) -> pd.Series:
    """Return the cells of a fact in one spelling: sex as M and F, age in whole or broken years; others as they are."""
    texts = cells.str.strip()
    if key == "sex":
        words = texts.str.casefold()
        # Of hombre and mujer, M is the woman.
        spanish = {"m": "F"} if {"h", "m"} <= set(words) and "f" not in set(words) else {}
        return words.map(_SEXES | spanish).fillna(texts)
    texts = texts.mask(texts.str.lower().isin(UNKNOWN_CELLS), "")
    if key == "age":
        return texts.mask(texts.str.match(r"^\d+(?:[.,]\d+)?\s*[YyMmWwDd]$|^\d+,\d+$"), years(texts).map(_short))
    return texts


def years(cells: pd.Series) -> pd.Series:
    """Return ages in years from `58`, `058Y`, `007M`, `003W` or `012D`; NaN where there is none."""
    parts = cells.str.strip().str.upper().str.extract(r"^(\d+(?:[.,]\d+)?)\s*([YMWD]?)$")
    return as_numbers(parts[0].fillna("")) / parts[1].map({"": 1, "Y": 1, "M": 12, "W": 365.25 / 7, "D": 365.25})


def _short(number: float) -> str:
    return "" if np.isnan(number) else f"{number:.3g}"


class Read(NamedTuple):
    """The cells of a column, read as a label's.

    Attributes:
        values: (N,) of 1 (present), 0 (absent), NaN (unknown, uncertain or none of a label's).
        unsure: (N,) whether a cell says that it is uncertain (-1, 0.5, `equivocal`).
        odd: (N,) whether a cell is none of a label's.
    """

    values: np.ndarray
    unsure: np.ndarray
    odd: np.ndarray

    def why(self) -> str:
        """Return the counts."""
        unknown = int(np.isnan(self.values).sum() - self.unsure.sum() - self.odd.sum())
        counts = [
            (int((self.values == 1).sum()), "present"), (int((self.values == 0).sum()), "absent"),
            (unknown, "unknown"), (int(self.unsure.sum()), "uncertain"),
        ]  # fmt: skip
        return ", ".join(f"{count:,} {word}" for count, word in counts if count)


def read_label(cells: pd.Series) -> Read:
    """Return the cells of a column as a label's: 0 and 1, true and false, yes and no, ja and nein, ..."""
    codes, distinct = pd.factorize(cells)
    words = _plain_cells(pd.Series(distinct, dtype=str))
    numbers = as_numbers(words).to_numpy()
    present = (words.isin(PRESENT) | (numbers == 1)).to_numpy()
    absent = (words.isin(ABSENT) | (numbers == 0)).to_numpy()
    if words.eq("+").any():  # beside it a minus is no empty cell
        absent = absent | words.isin(("-", "\u2013", "\u2212")).to_numpy()
    asked = words.str.endswith("?") & words.str.rstrip("? ").isin(PRESENT | ABSENT)  # `1?`, `yes ?`
    unsure = (words.isin(UNSURE) | (numbers == -1) | (numbers == 0.5) | asked).to_numpy()
    odd = ~(present | absent | unsure | words.isin({*UNKNOWN_CELLS, *MISSING}).to_numpy())
    values = np.where(present, 1.0, np.where(absent, 0.0, np.nan))
    return Read(values[codes], unsure[codes], odd[codes])


def _plain_cells(cells: pd.Series) -> pd.Series:
    """Return cells as they are meant: without invisible signs and capitals, full-width digits and minus as usual."""
    texts = (
        cells.str.normalize("NFKC")
        .str.replace("\u2212", "-")
        .str.replace(r"[\u200b-\u200f\u2060\ufeff]", "", regex=True)
    )
    return texts.str.strip().str.casefold()


def by_policy(read: Read, uncertain: str, blanks: str = "unknown") -> np.ndarray:
    """Return (N,) of 0, 1 and NaN: uncertain and empty cells by their policies.

    Raises:
        DataError: A policy is none.
    """
    name, empty = policy("uncertain", uncertain, POLICIES), policy("blanks", blanks, BLANKS)
    values = np.where(read.unsure, POLICIES[name], read.values)
    blank = np.isnan(read.values) & ~read.unsure & ~read.odd
    return np.where(blank, POLICIES[empty], values)


def policy(option: str, value: object, known: Sequence[str] | dict) -> str:
    """Return a named policy; `zero` and `one` mean `zeros` and `ones`.

    Raises:
        DataError: There is none of this name.
    """
    name = {"zero": "zeros", "one": "ones", "0": "zeros", "1": "ones", "mask": "unknown", "masked": "unknown"}.get(
        str(value).lower(), str(value).lower()
    )
    if name not in known:
        raise DataError(f"{option} {value!r}{nearest(name, known)}; there are {', '.join(known)}.")
    return name


def describe(name: str, cells: pd.Series) -> Column:
    """Return what a column is taken for where nobody says it, by its name and its cells."""
    if name.startswith("Unnamed: "):
        return Column(name, "left out", "it has no name")
    if key := fact(name):
        return Column(name, "fact", "describes the case" + ("" if key == name else f", kept as {key}"))
    if is_case(name) and read_label(cells).odd.any():
        return Column(name, "fact", "names the case that images belong to" + ", kept as case" * (name != "case"))
    if is_covariate(name):
        return Column(name, "left out", "describes the case or how it was acquired, by its name")
    read = read_label(cells)
    known = int((~np.isnan(read.values)).sum())
    odd = int(read.odd.sum())
    if known and (odd == 0 or (odd <= max(1, _ODD_SHARE * (known + odd)) and known >= 4)):
        return Column(name, "label", read.why())
    return Column(name, "left out", _why_no_label(cells, known, odd))


def _why_no_label(cells: pd.Series, known: int, odd: int) -> str:
    texts = cells.str.strip()
    told = texts[~texts.str.lower().isin(UNKNOWN_CELLS)]
    if told.empty:
        return "its cells are all empty"
    if not odd:
        return "its cells are all uncertain"
    distinct = told.drop_duplicates()
    some = ", ".join(distinct.iloc[:3]) + (", ..." if len(distinct) > 3 else "")
    if as_numbers(told).notna().all():
        return f"numbers other than 0 and 1 ({some}) in {odd:,} of {known + odd:,} cells"
    if 2 <= len(distinct) <= max(2, min(20, len(told) // 2)):
        return f"words ({some}); if these are classes: --option 'class_column={cells.name}'"
    return f"free text ({len(distinct):,} different cells)"


def report(columns: Sequence[Column]) -> list[str]:
    """Return a sentence for each thing that columns are taken for."""
    lines = [f"column {each.name!r}: {each.taken}" + (f" ({each.why})" if each.why else "") for each in columns]
    return [f"{line}." for line in lines]


def refuse_repeated_columns(path: Path, raw: pd.DataFrame, used: Sequence[str | None]) -> None:
    """Raise where a column that is used stands twice: nobody knows which one is meant."""
    for name in raw.attrs.get("repeated", []):
        if name in used:
            raise DataError(f"{path}: the column {name!r} stands twice. Rename one of them, or name another column.")
