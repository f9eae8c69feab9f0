"""`report.tex`: balanced, rectangular, and every name from the data escaped."""

import re

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Evaluation, evaluate
from clinvit.eval.report.latex import escape
from hypothesis import given
from hypothesis import strategies as st

BAD = r"100% & $x_1$ #1 {~^} \input{/etc/passwd} <a>|b [c]*"
SPECIAL = re.compile(r"(?<!\\)[%&#_$~^<>|\"]")


def write(path, labels, seed=0, exclusive=False):
    generator = np.random.default_rng(0)
    truth = (generator.random((90, len(labels))) < 0.4).astype(float)
    if exclusive:
        truth = np.eye(len(labels))[np.arange(90) % len(labels)]
    scores = np.random.default_rng(seed).random(truth.shape) + truth
    scores = scores / scores.sum(axis=1, keepdims=True) if exclusive else scores / 2
    patients = [f"{i // 3}v" if i % 3 == 2 else f"{i // 3}" for i in range(90)]
    cases = pd.DataFrame({"id": np.arange(90), "patient": patients, "split": ["test", "test", "val"] * 30})
    write_predictions(path, predictions_table(cases, labels, truth, scores, [""] * 90))
    return read_predictions(path)


def rows(tex: str) -> list[tuple[int, str]]:
    """Columns of the table and text, of every row."""
    found = []
    for columns, body in re.findall(r"\\begin\{longtable\}\{@\{\}(l[lr]*)@\{\}\}(.*?)\\end\{longtable\}", tex, re.S):
        lines = [line for line in body.splitlines() if line.endswith(r" \\")]
        found += [(len(columns), line.removesuffix(r" \\")) for line in lines]
    return found


@pytest.mark.parametrize("exclusive", [False, True])
def test_document_is_balanced_and_its_tables_rectangular(tmp_path, exclusive):
    labels = [BAD, "Pleural_Thickening", "*star", "[bracket"]
    tables = {name: write(tmp_path / "p.csv", labels, seed, exclusive) for seed, name in enumerate(["a & b", BAD])}
    evaluate(tables, tmp_path, evaluation=Evaluation(resamples=20, prevalence={BAD: 0.02}), title=BAD)
    tex = (tmp_path / "report.tex").read_text(encoding="utf-8")
    assert r"\input{" not in tex
    depth = 0
    for brace in re.sub(r"\\[\\{}]", "", tex):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\begin\{(\w+)\}", tex).count("longtable") == (2 + 4 + 1 + 1 + 2 - 1) + 2 * 2
    assert sorted(re.findall(r"\\begin\{(\w+)\}", tex)) == sorted(re.findall(r"\\end\{(\w+)\}", tex))
    assert len(rows(tex)) > 20
    for columns, row in rows(tex):
        assert len(re.findall(r"(?<!\\)&", row)) == columns - 1, row
        assert not row.lstrip().startswith(("[", "*"))
    assert ("Cohen's kappa" in tex) == exclusive
    assert not re.search("nan", tex)


@given(st.text())
def test_any_text_is_escaped(text):
    shown = escape(text)
    bare = re.sub(r"\\text\w+\{\}|\$-\$|\\[{}$&%#_]|\{[\[*]\}", "", shown)
    assert not SPECIAL.search(bare)
    assert "\\" not in bare
    assert "{" not in bare
    assert "\n" not in shown
