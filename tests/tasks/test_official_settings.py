"""Each recipe of a paper beside its official code, key by key: what differs is listed on purpose, or the test fails."""

import math
from dataclasses import replace

import pytest
from clinvit.engine.recipe import flat
from clinvit.mil.recipe import Mil, settings
from clinvit.tasks.clips import videomae_v2
from clinvit.tasks.erdes import recipes as erdes

from .official_entries import Departs, Free, Official, Ours
from .official_settings import BASELINES, SETTINGS
from .official_video import FINETUNING, PRETRAINING


def resolved(recipe) -> dict:
    """Return the flat recipe, RandAugment with its number of operations, an aggregator's widths as they are built."""
    values = flat(recipe)
    if isinstance(recipe, Mil):
        values |= dict(zip(("hidden", "attention", "dropout"), settings(recipe), strict=True))
    if (policy := values.get("augment.randaug")) and "-n" not in policy:
        magnitude, _, rest = policy.partition("-")
        values["augment.randaug"] = f"{magnitude}-n2-{rest}"
    return values


def same(value, official) -> bool:
    """Return whether two values are equal, numbers but for the last digits of a product."""
    if isinstance(value, tuple) and isinstance(official, tuple):
        return len(value) == len(official) and all(map(same, value, official))
    if isinstance(value, float) and isinstance(official, float | int):
        return math.isclose(value, official, rel_tol=1e-9)
    return value == official


def departures(recipe, keys) -> list[str]:
    """Return what of a recipe does not stand in the table as it is, a line each."""
    values = resolved(recipe)
    found = [f"{key}: in the table, not in the recipe" for key in keys if key not in values]
    for key, value in values.items():
        match keys.get(key):
            case None:
                found.append(f"{key} = {value!r}: neither compared nor listed")
            case Official(official, file, line) if not same(value, official):
                found.append(f"{key} = {value!r}, official {official!r} ({file}:{line})")
            case Ours(expected, reason) if value != expected:
                found.append(f"{key} = {value!r} instead of {expected!r}: {reason}")
            case Departs(ours, official, file, line, _) if value != ours:
                found.append(f"{key} = {value!r}, listed as {ours!r} instead of {official!r} ({file}:{line})")
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_every_key_is_the_official_one_or_listed(name):
    make, _, keys = SETTINGS[name]
    assert departures(make(), keys) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_every_entry_says_where_or_why(name):
    for key, entry in SETTINGS[name].keys.items():
        if isinstance(entry, Official | Departs):
            lines = entry.line if isinstance(entry.line, tuple) else (entry.line,)
            assert entry.file and lines and all(isinstance(line, int) and line > 0 for line in lines), key
        if isinstance(entry, Departs | Ours | Free):
            assert len(entry.reason.split()) > 2, key
        if isinstance(entry, Departs):
            assert entry.ours != entry.official, f"{key}: no departure any more"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: replace(r, mask_ratio=0.75), "mask_ratio = 0.75, official 0.9 (PRETRAIN.md:53)"),
        (lambda r: replace(r, stain=replace(r.stain, method="macenko")), "stain.method = 'macenko' instead of 'none'"),
        (lambda r: replace(r, data=replace(r.data, mean=(0.485,))), "data.mean = (0.485,), listed as (0.5056,)"),
    ],
)  # fmt: skip
def test_a_changed_recipe_is_found(change, message):
    make, _, keys = SETTINGS["thorax/pretrain vit_s"]
    found = departures(change(make()), keys)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_a_new_key_must_be_listed():
    make, _, keys = SETTINGS["thorax/finetune vit_s"]
    less = {key: entry for key, entry in keys.items() if key != "erase"}
    assert departures(make(), less) == ["erase = 0.0: neither compared nor listed"]


def test_every_official_recipe_has_its_table():
    assert set(BASELINES) == set(erdes.BATCHES)
    assert set(FINETUNING) == set(videomae_v2.FINETUNING)
    assert set(PRETRAINING) == set(videomae_v2.PRETRAINING)
