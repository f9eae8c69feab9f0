"""Every text of the tables is hostile at once: no report, table or image that `evaluate` writes lets one through."""

import csv
import json
import re
import subprocess
from html.parser import HTMLParser
from shutil import which

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.stages.model_card import markdown

HOSTILE = {
    "script": "</script><script>document.title='RAN'</script>",
    "attribute": "\" onerror=\"document.title='RAN'\" x='",
    "image": "<img src=x onerror=document.title='RAN'>",
    "template": "{{ 7*191 }}{% include 'x' %}",
    "latex": r"\input{/etc/passwd}\write18{touch RAN} 100% $x_1^2$ & # ~",
    "formula": '=HYPERLINK("http://x";"RAN")',
    "terminal": "\x1b[2J\x1b]0;RAN\x07",
    "markdown": "[RAN](javascript:alert(1)) ![x](http://x/y.png) | `a` | <b>",
}
EVENTS = re.compile(r"on[a-z]+", re.I)


class Live(HTMLParser):
    """What a browser would run or fetch."""

    def __init__(self, html: str):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "iframe", "object", "embed", "base", "form", "link"):
            self.found.append((tag, attrs))
        for name, value in attrs:
            outside = name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:image/"))
            if EVENTS.fullmatch(name) or outside:
                self.found.append((tag, name, value))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """`evaluate` of two models with hostile ids, patients, labels, reasons, subgroups and names; the folder."""
    folder, rng = tmp_path_factory.mktemp("hostile"), np.random.default_rng(0)
    texts, n = list(HOSTILE.values()), 80
    labels = [texts[0], texts[4] + texts[1], texts[5]]
    table = pd.DataFrame({"id": [f"{texts[i % 8]}{i}" for i in range(n)]})
    table["patient"] = [f"{texts[i % 8]}p{i // 2}" for i in range(n)]
    # Two rows of a patient must be in one split.
    table["split"] = np.where(np.arange(n) // 2 % 4 == 0, "val", "test")
    images = table[["id", "patient", "split"]].assign(path="x.png")
    images["sex"] = [texts[i % 2] for i in range(n)]
    images["site"] = [texts[2 + i % 6] for i in range(n)]
    truths = rng.integers(0, 2, (len(labels), n))
    for name in "ab":
        rows = table.assign(status="ok", reason="")
        rows.loc[5:12, ["status", "reason"]] = [["failed", text] for text in texts]
        for label, truth in zip(labels, truths):
            rows[f"y_{label}"], images[label] = truth, truth
            scores = pd.Series((truth + rng.random(n) * 1.2) / 2.2).round(4).astype(str)
            rows[f"p_{label}"] = scores.mask(rows["status"] == "failed", "")
        rows.to_csv(folder / f"{name}.csv", index=False)
    images.to_csv(folder / "manifest.csv", index=False)
    tables = [f"{texts[2]}={folder}/a.csv", f"{texts[7].replace('=', '')}={folder}/b.csv"]
    names = [table.replace("src=x onerror=document.title=", "src onerror ") for table in tables]
    more = ["--data", folder / "manifest.csv", "--resamples", 50, "--title", texts[0] + texts[4]]
    assert main(["evaluate", *names, *map(str, more), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_the_page_runs_and_fetches_nothing(report):
    page = Live((report / "report.html").read_text(encoding="utf-8"))
    assert page.found == []
    for name in ("script", "image", "template", "latex", "formula"):
        assert HOSTILE[name] in page.text, name
    assert "1337" not in page.text


def test_a_browser_runs_nothing(report, tmp_path):
    browser = which("chromium") or which("chromium-browser") or which("google-chrome")
    if browser is None:
        pytest.skip("no browser here")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    flags += f" --disable-component-update --disable-sync --user-data-dir={tmp_path} --dump-dom"
    done = subprocess.run(
        [browser, *flags.split(), (report / "report.html").as_uri()], capture_output=True, text=True, timeout=120,
        check=True,
    )  # fmt: skip
    title = re.search("<title>(.*?)</title>", done.stdout, re.S)[1]
    assert title != "RAN" and "RAN" in title  # as text of the title that was asked for
    assert "<h1" in done.stdout


def test_latex_runs_no_command_of_the_data(report):
    source = (report / "report.tex").read_text(encoding="utf-8")
    assert r"\input{/etc" not in source and r"\write18{" not in source
    assert r"\textbackslash{}input\{/etc/passwd\}" in source
    assert not [char for char in source if ord(char) < 32 and char != "\n"]


@pytest.mark.parametrize("name", ["metrics.csv", "disagreements.csv"])
def test_no_cell_is_a_formula(report, name):
    with (report / name).open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    formulas = [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert [cell for cell in formulas if not re.fullmatch(r"-[\d.]+(e-?\d+)?", cell)] == []
    assert any("'" + HOSTILE["formula"] in cell for cell in cells)


def test_json_keeps_the_texts(report):
    labels = [row["label"] for row in json.loads((report / "report.json").read_text())["models"][0]["labels"]]
    assert labels[0] == HOSTILE["script"] and HOSTILE["formula"] in labels


def test_markdown_shows_texts_as_they_are():
    shown = markdown(HOSTILE["markdown"] + "\n# x\n```\n" + HOSTILE["script"])
    assert "\n" not in shown and "\\[RAN\\](" in shown and "\\<b\\>" in shown and "\\<script\\>" in shown
    assert not re.search(r"(?<!\\)[`<\[|#]", shown)
