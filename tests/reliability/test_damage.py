"""Damaged files of every format before their readers: refused in one line that names the file, or read as well as
the format allows; never a crash, a hang, or memory without bound.

`pytest tests/reliability/test_damage.py` tries some 100 per reader, `-m reliability` 2,000 and more, `-m soak` ten
times that; both end in a table. CLINVIT_DAMAGE_SEED chooses other damages.
"""

import os
from collections import Counter

import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.loading.isolation import isolated
from clinvit.tests.reliability.commands import show
from clinvit.tests.reliability.damage import mutant
from clinvit.tests.reliability.specimens import ENTRIES, specimens
from clinvit.tests.reliability.trial import FAULTS, HUNG, StrangeTrial, strange_paths, table, tried

SEED = int(os.environ.get("CLINVIT_DAMAGE_SEED", "20"))
WORKERS = len(os.sched_getaffinity(0))
# Lightning and jsonargparse, which their readers import, take seconds.
QUICK = sorted(set(ENTRIES) - {"checkpoint", "recipe"})


@pytest.fixture(scope="module")
def good():
    return specimens()


@pytest.fixture(scope="module")
def outcomes(request):
    """Those of all tests, shown at the end."""
    found = []
    yield found
    if len(found) > 10_000:
        show(request, f"\n\nDamaged files, seed {SEED}:\n\n{table(found)}\n")


def check(good, entry: str, count: int, root) -> list:
    """Try `count` damaged files before a reader, shared among the formats that it reads."""
    chosen = [specimen for specimen in good if specimen.entry == entry]
    share = -(-count // len(chosen))
    found = list(tried(chosen, {specimen.name: share for specimen in chosen}, SEED, root, WORKERS))
    faults = [one for one in found if one.verdict in FAULTS]
    listed = "\n".join(f"{one.verdict}: {one.name} #{one.number} ({one.damage}): {one.words}" for one in faults[:20])
    assert not faults, f"seed {SEED}: {Counter(one.verdict for one in faults)}\n{listed}"
    # A journal goes on from its last whole line, whatever follows.
    assert len(found) >= count
    assert entry == "journal" or sum(one.verdict == "refused" for one in found) > count / 20
    return found


@pytest.mark.parametrize("entry", QUICK)
def test_a_few_damaged_files(good, tmp_path, entry):
    check(good, entry, 100, tmp_path)


@pytest.mark.reliability
@pytest.mark.parametrize("entry", ENTRIES)
def test_damaged_files(good, outcomes, tmp_path, entry):
    outcomes += check(good, entry, 2000, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("entry", ENTRIES)
def test_very_many_damaged_files(good, outcomes, tmp_path, entry):
    outcomes += check(good, entry, 20_000, tmp_path)


@pytest.mark.parametrize("entry", QUICK)
def test_names_that_lead_to_no_file(good, tmp_path, entry):
    first = next(specimen for specimen in good if specimen.entry == entry)
    paths = list(strange_paths(tmp_path / "strange", first.good.suffix))
    items = [(entry, first.called, path) for _, path in paths]
    for (name, _), result in zip(paths, isolated(StrangeTrial(), items, time=HUNG), strict=True):
        assert not isinstance(result, DataError), f"{name}: {result}"
        verdict, words = result
        # What a killed prediction left is begun anew where it cannot be used.
        assert verdict == "refused" or entry == "journal", f"{name}: {verdict}: {words}"


def test_damage_is_decided_by_its_seed(good):
    one, others = good[0].good, [specimen.good for specimen in good]
    first = [mutant(one, others, 1, number) for number in range(60)]
    assert first == [mutant(one, others, 1, number) for number in range(60)]
    assert first != [mutant(one, others, 2, number) for number in range(60)]
    assert sum(each.data != one.data for each in first) > 50 and len({each.damage for each in first}) >= 11
