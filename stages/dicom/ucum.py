"""Units as manifests state them, as codes of UCUM (ISO 11240, PS3.16 section 8)."""

import re

from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from .codes import line

_MEANING_CHARACTERS = 64
# Code and meaning, by how people write the unit: lower case, singular or plural.
_KNOWN = {
    ("a", "year"): ("year", "years", "yr", "yrs", "y", "a"),
    ("mo", "month"): ("month", "months", "mo"),
    ("wk", "week"): ("week", "weeks", "wk", "wks"),
    ("d", "day"): ("day", "days", "d"),
    ("h", "hour"): ("hour", "hours", "h"),
    ("min", "minute"): ("minute", "minutes", "min"),
    ("s", "second"): ("second", "seconds", "sec", "s"),
    ("ms", "millisecond"): ("millisecond", "milliseconds", "ms"),
    ("%", "percent"): ("%", "percent", "per cent"),
    ("m", "meter"): ("m", "meter", "meters", "metre", "metres"),
    ("cm", "centimeter"): ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    ("mm", "millimeter"): ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    ("um", "micrometer"): ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"),
    ("mm2", "square millimeter"): ("mm2", "mm²", "mm^2"),
    ("cm2", "square centimeter"): ("cm2", "cm²", "cm^2"),
    ("mL", "milliliter"): ("ml", "milliliter", "milliliters", "millilitre", "cc"),
    ("L", "liter"): ("l", "liter", "liters", "litre", "litres"),
    ("g", "gram"): ("g", "gram", "grams"),
    ("kg", "kilogram"): ("kg", "kilogram", "kilograms"),
    ("kg/m2", "kilogram per square meter"): ("kg/m2", "kg/m²", "kg/m^2"),
    ("mm[Hg]", "millimeter of mercury"): ("mmhg", "mm hg", "mm[hg]"),
    ("[diop]", "diopter"): ("dpt", "diopter", "diopters", "dioptre", "dioptres", "d.p.t."),
    ("deg", "degree"): ("deg", "degree", "degrees", "°"),
    ("[hnsf'U]", "Hounsfield unit"): ("hu", "hounsfield unit", "hounsfield units"),
    ("{pixels}", "pixels"): ("px", "pixel", "pixels"),
    ("{H.B.}/min", "beats per minute"): ("bpm", "beats per minute"),
}
_CODES = {name: code for code, names in _KNOWN.items() for name in names}


def unit_code(unit: str) -> CodedConcept:
    """Return a unit as a code of UCUM: `1` of none, words that the table does not have as an annotation in braces."""
    words = " ".join(unit.split())
    if not words:
        return codes.UCUM.NoUnits
    if known := _CODES.get(words.lower()):
        return CodedConcept(known[0], "UCUM", known[1])
    plain = re.sub(r"[^!-z|~]+", "_", words)  # an annotation is of ASCII, without braces and spaces
    return CodedConcept(f"{{{plain[:14]}}}", "UCUM", line(words, _MEANING_CHARACTERS))
