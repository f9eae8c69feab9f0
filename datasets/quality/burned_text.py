"""What kind of text a line in an image is, and whether it says who the patient is: by comparison with the header.

Recognised text has errors: of names, words that are nearly equal count; of numbers, signs that look alike are equal.
"""

import calendar
import datetime
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

# Words that a technician or a machine puts on films; they say nothing about who the patient is.
MARKERS = frozenset(
    (
        "l r lt rt left right links rechts li re ap pa lat ll rl lateral port portable mobile bed bedside bett erect "
        "upright supine sitting semi standing prone stehend liegend sitzend halbsitzend decub decubitus insp exp "
        "inspiration expiration lll rll cm mm kv kvp mas chest thorax xray view sid fdd"
    ).split()
)
KINDS = ("date", "letters and digits", "letters", "digits", "marker")
NEARLY = 0.8  # likeness of a recognised word to a part of a name, from four letters on
_LEAST_NAME, _LEAST_INSIDE = 3, 5  # letters of a name to be looked for; signs of a number to be found inside others
_ALIKE = str.maketrans("oilsbz", "011582")
_MONTHS = {
    name: number
    for number, names in enumerate(
        "jan,ene|feb,fev|mar,mrz|apr,avr,abr|may,mai|jun,juin|jul,juil|aug,aou,ago|sep|oct,okt|nov|dec,dez,dic".split(
            "|"
        ),
        1,
    )
    for name in names.split(",")
}
_NUMERIC = re.compile(r"(?<!\d)(\d{1,4})\s?[./\- ]\s?(\d{1,2})\s?[./\- ]\s?(\d{2,4})(?!\d)")
_COMPACT = re.compile(r"(?<!\d)(\d{4})(\d{2})(\d{2})(?!\d)")
_WORDED = re.compile(r"(?<!\d)(\d{1,2})[\s.\-]*([a-z]{3,9})[\s.,\-]*(\d{4}|\d{2})(?!\d)")


def kind_of(text: str) -> str:
    """Return which of `KINDS` a line of text is."""
    plain = folded(text)
    if dates_in(text):
        return "date"
    words = re.findall(r"[a-z]+|\d+", plain)
    letters = [word for word in words if word.isalpha()]
    if letters and len(letters) == len(words) and all(word in MARKERS for word in letters):
        return "marker"
    if letters and len(letters) < len(words):
        return "letters and digits"
    return "letters" if letters else "digits"


def person_fields(text: str, person: Iterable[tuple[str, str]]) -> list[str]:
    """Return the fields of a person (`patient name`, ...) that a line of text says.

    Args:
        text: As recognised.
        person: Pairs of field and what the header holds.
    """
    found = []
    for field, value in person:
        says = _says_date if field == "birth date" else _says_name if field == "patient name" else _says_number
        if field not in found and says(text, value):
            found.append(field)
    return found


def folded(text: str) -> str:
    """Return a text in small letters without accents; letters that have none in ASCII are left out."""
    return unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()


def dates_in(text: str) -> set[datetime.date]:
    """Return every date that a text may mean: day and month either way, years of two digits in both centuries."""
    plain, found = folded(text), set()
    for first, second, third in _NUMERIC.findall(plain):
        if len(first) == 3 or len(third) == 3 or (len(first) > 2 and len(third) > 2):
            continue
        orders = [(first, second, third)] if len(first) == 4 else [(third, second, first), (third, first, second)]
        if len(first) == 2 and len(third) == 2:
            orders.append((first, second, third))
        found |= _dates(orders)
    found |= _dates(_COMPACT.findall(plain))
    months = [
        (year, str(_MONTHS.get(word[:3], _MONTHS.get(word[:4], 0))), day) for day, word, year in _WORDED.findall(plain)
    ]
    return found | _dates(months)


def _dates(orders: Sequence[tuple[str, ...]]) -> set[datetime.date]:
    found = set()
    for (year, month, day), century in itertools.product(orders, (1900, 2000)):
        number = int(year) + (century if len(year) == 2 else 0)
        known = 1880 <= number <= 2100 and 1 <= int(month) <= 12
        if known and 1 <= int(day) <= calendar.monthrange(number, int(month))[1]:
            found.add(datetime.date(number, int(month), int(day)))
    return found


def _says_name(text: str, value: str) -> bool:
    parts = [part for part in re.split(r"[^a-z]+", folded(value)) if len(part) >= _LEAST_NAME]
    words = re.findall(r"[a-z]+", folded(text))
    joined = "".join(words)
    return any(
        part in words
        or (len(part) >= _LEAST_INSIDE and part in joined)
        or (len(part) > _LEAST_NAME and any(_nearly(part, word) for word in words))
        for part in parts
    )


def _nearly(part: str, word: str) -> bool:
    if abs(len(part) - len(word)) > 2 or word in MARKERS:
        return False
    return SequenceMatcher(None, part, word, autojunk=False).ratio() >= NEARLY


def _says_number(text: str, value: str) -> bool:
    """Return whether a number stands in a text: as one of its words, or, where it is long enough, inside."""
    key = re.sub(r"[^a-z0-9]", "", folded(value)).translate(_ALIKE)
    words = [word.translate(_ALIKE) for word in re.findall(r"[a-z0-9]+", folded(text))]
    short = key.lstrip("0")
    if len(short) < _LEAST_NAME:
        return False
    return any(word.lstrip("0") == short for word in words) or (len(short) >= _LEAST_INSIDE and short in "".join(words))


def _says_date(text: str, value: str) -> bool:
    return bool(dates_in(value) & dates_in(text))
