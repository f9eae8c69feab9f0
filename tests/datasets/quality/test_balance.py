"""Balance over entries: the probabilities are MetaCLIP's, patients stay together, and the order says nothing."""

import hashlib
import hmac

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.quality.balance import balanced, case_entries, draw
from hypothesis import given, settings
from hypothesis import strategies as st

KEY = "0123456789abcdef of this test"


def entries_of(words: list[list[str]]) -> pd.DataFrame:
    return pd.DataFrame([(row, entry) for row, some in enumerate(words) for entry in some], columns=["row", "entry"])


def test_probabilities_are_exact():
    words = [["a"]] * 70 + [["b"]] * 20 + [["c"]] * 7 + [["a", "c"]] * 3
    found = balanced(entries_of(words), [f"p{n}" for n in range(100)], 20, KEY)
    table = found.entries.set_index("entry")
    assert table["count"].to_dict() == {"a": 73, "b": 20, "c": 10}
    assert table["p"].to_dict() == {"a": 20 / 73, "b": 1.0, "c": 1.0}
    assert list(table.index) == ["a", "b", "c"]
    np.testing.assert_array_equal(found.chance, [20 / 73] * 70 + [1] * 30)
    assert found.kept[70:].all() and table["kept"]["c"] == 10
    draws = np.array([draw(f"p{n}", KEY) for n in range(70)])
    np.testing.assert_array_equal(found.kept[:70], draws < 20 / 73)


def test_a_draw_is_the_hash_mod_2_to_the_53():
    digest = hmac.new(KEY.encode(), "p\u00e4t 7".encode(), hashlib.sha256).digest()
    assert draw("p\u00e4t 7", KEY) == (int.from_bytes(digest, "big") % 2**53) / 2**53 < 1


def test_over_many_keys_each_entry_keeps_as_many_as_it_should():
    counts, most, keys = {"common": 60, "middling": 25, "rare": 5}, 12, 2000
    words = [[name] for name, count in counts.items() for _ in range(count)]
    entries, patients = entries_of(words), [str(n) for n in range(len(words))]
    kept = [balanced(entries, patients, most, f"{KEY} {number}").entries for number in range(keys)]
    mean = pd.concat(kept).groupby("entry")["kept"].mean()
    for name, count in counts.items():
        p = most / max(count, most)
        sigma = np.sqrt(count * p * (1 - p) / keys)
        assert abs(mean[name] - min(count, most)) <= 3 * sigma, (name, mean[name], sigma)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_order_says_nothing_and_patients_stay_together(data):
    cases = data.draw(
        st.lists(st.tuples(st.integers(0, 9), st.sets(st.sampled_from("abcd"), min_size=1)), min_size=1, max_size=40)
    )
    most, order = data.draw(st.integers(1, 8)), data.draw(st.permutations(range(len(cases))))

    def kept(rows) -> np.ndarray:
        words = entries_of([sorted(cases[row][1]) for row in rows])
        words = words.iloc[np.random.default_rng(0).permutation(len(words))]
        return balanced(words, [f"p{cases[row][0]}" for row in rows], most, KEY).kept

    plain = kept(range(len(cases)))
    np.testing.assert_array_equal(kept(order), plain[order])
    for patient in range(10):
        own = [stays for (who, _), stays in zip(cases, plain) if who == patient]
        assert len(set(own)) <= 1
    counts = {entry: sum(entry in some for _, some in cases) for entry in "abcd"}
    for (_, some), stays in zip(cases, plain):
        assert stays or all(counts[entry] > most for entry in some)  # what is rare stays


def test_entries_of_a_manifest(tmp_path):
    pd.DataFrame(
        {
            "id": list("abcdef"), "path": [f"{n}.png" for n in "abcdef"], "patient": list("abcdef"), "split": "train",
            "Mass": ["1", "0", "", "0", "1", "0"], "Edema": ["1", "0", "", "", "0", "1"],
            "age": ["058Y", "7", "", "59.5", "006M", "unknown"], "View Position": ["PA", "PA ", "", "-", "LL", "AP"],
        }
    ).to_csv(tmp_path / "manifest.csv", index=False)  # fmt: skip
    manifest = read_manifest(tmp_path / "manifest.csv")
    found = case_entries(manifest, ["findings", "view", "age", "Mass"]).groupby("row")["entry"].agg(set).to_list()
    assert found == [
        {"finding=Mass", "finding=Edema", "View Position=PA", "age=50-59"},
        {"finding=none", "View Position=PA", "age=0-9"},
        {"finding=unknown", "View Position=unknown", "age=unknown"},
        {"finding=none", "View Position=unknown", "age=50-59"},
        {"finding=Mass", "View Position=LL", "age=0-9"},
        {"finding=Edema", "View Position=AP", "age=unknown"},
    ]
    for name, words in (("scaner", "no column 'scaner'"), ("patient", "no column 'patient'")):
        with pytest.raises(DataError, match=words):
            case_entries(manifest, [name])
    with pytest.raises(DataError, match="no label column"):
        case_entries(manifest.with_labels(()), ["findings"])
    with pytest.raises(UserError, match="at least 1"):
        balanced(entries_of([["a"]]), ["p"], 0, KEY)
