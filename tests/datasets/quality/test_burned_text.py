"""What a line of burned-in text is: a date, a marker, what the header says of a person, with errors of recognition."""

import datetime

import numpy as np
import pytest
from clinvit.datasets.quality.burned_text import dates_in, kind_of, person_fields
from PIL import Image, ImageDraw, ImageFont

PERSON = [
    ("patient name", "Quixadotter^Yvaine"), ("patient number", "MRN-938171"), ("birth date", "19310713"),
    ("accession number", "ACC0055291"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("L", "marker"), ("AP PORTABLE", "marker"), ("R  SUPINE", "marker"), ("13.07.1931", "date"),
        ("12 MAR 1950", "date"), ("1931-07-13", "date"), ("19310713", "date"), ("Room 7", "letters and digits"),
        ("St. Mary Hospital", "letters"), ("4711", "digits"), ("12:34", "digits"), ("99.99.1999", "digits"),
        ("+", "digits"),
    ],
)  # fmt: skip
def test_kinds(text, kind):
    assert kind_of(text) == kind


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("QUIXADOTTER, Y.", ["patient name"]), ("Qu1xadotter Yva1ne", []), ("QUIXADOTER YVAINE", ["patient name"]),
        ("Yvalne", ["patient name"]), ("xxYVAINExx", ["patient name"]), ("MRN 938171", ["patient number"]),
        ("ID: MRN-93B17I", ["patient number"]), ("* 13.07.1931", ["birth date"]), ("07/13/31", ["birth date"]),
        ("13 Jul 1931", ["birth date"]), ("acc 55291", []), ("ACC0055291", ["accession number"]),
        ("Quixadotter 13.07.1931", ["patient name", "birth date"]), ("L", []), ("AP PORTABLE", []), ("14.07.1931", []),
        ("938", []), ("Yv", []),
    ],
)  # fmt: skip
def test_what_the_header_says_of_a_person_is_found(text, fields):
    assert person_fields(text, PERSON) == fields


def test_short_parts_of_names_and_numbers_are_no_match():
    short = [("patient name", "Li^A"), ("patient number", "7")]
    assert person_fields("A 7 Li", short) == []


def test_days_and_months_are_read_either_way():
    assert dates_in("03/04/1950") == {datetime.date(1950, 4, 3), datetime.date(1950, 3, 4)}
    assert datetime.date(1950, 12, 31) in dates_in("31.12.50") and not dates_in("31.02.1950") - dates_in("")
    assert dates_in("5 mai 1961") == {datetime.date(1961, 5, 5)} == dates_in("5. Mai 1961")


def test_text_that_is_drawn_is_found_where_it_is():
    pytest.importorskip("rapidocr", reason="clinvit[ocr] is not installed")
    from clinvit.datasets.quality.text_finder import TextFinder

    image = Image.fromarray(np.random.default_rng(0).normal(70, 12, (256, 320)).clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(image).text((2, 200), "QUIXADOTTER 4711", fill=255, font=ImageFont.load_default(20))
    finder = TextFinder()
    (line,) = finder.lines(np.asarray(image))
    left, top, right, bottom = line.box
    assert person_fields(line.text, PERSON) == ["patient name"] and "4711" in line.text
    assert 0 <= left <= 12 and 190 <= top <= 210 and 150 <= right <= 260 and 212 <= bottom <= 232
    assert finder.lines(np.zeros((64, 64), np.uint8)) == []
