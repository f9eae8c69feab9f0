"""The page of timm's names is what its script writes: its counts, its reasons, and some of its rows made again."""

import re
import runpy
from pathlib import Path

import pytest
import timm

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/timm_vits.md").read_text(encoding="utf-8")
ROWS = {
    name: (kept == "yes", words) for name, kept, words in re.findall(r"^\| (\S+) \| (yes|no) \| (.+) \|$", PAGE, re.M)
}
SCRIPT = runpy.run_path(str(ROOT / "benchmarks/timm_vits.py"))


def test_most_names_load_and_the_rest_say_why():
    loads = sum(good for good, _ in ROWS.values())
    assert loads >= 200 and f"Of {len(ROWS)} names {loads} become" in PAGE
    for good, words in ROWS.values():
        assert good == bool(re.fullmatch(r"\d+e-\d+, \d+e-\d+", words)) and "not tried" not in words
        assert not good or max(float(each) for each in words.split(", ")) <= 1e-5


def test_every_name_of_this_timm_stands_there():
    if f"timm {timm.__version__}." not in PAGE:
        pytest.skip("the page is of another timm")
    assert SCRIPT["names"]() == list(ROWS)


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "eva02_tiny_patch14_224", "beit_base_patch16_224"])
def test_rows_made_again(name):
    good, words = SCRIPT["outcome"](name)
    assert good == ROWS[name][0] and (good or words == ROWS[name][1])
