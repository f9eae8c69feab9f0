"""The page of a slide: self-contained, escaped, bounded, its data decode and its script runs."""

import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.eval.report import slide_page as module
from clinvit.eval.report.slide_page import OVERVIEW_BYTES, SlideMap, highest_tiles, slide_page, write_slide_page
from PIL import Image

VOID = {"meta", "img", "input"}
NASTY = "</script><script>alert(1)</script>\"'&<b>"


class Page(HTMLParser):
    """Parses strictly: every tag closed in order; keeps tags, ids, text and scripts."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.ids, self.text, self.scripts = [], [], [], "", []
        self.feed(html)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.text += data

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def slide():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:6, :8] * 200
    coords, scores = np.column_stack([x.ravel(), y.ravel()]), rng.random(48)
    return SlideMap(
        id="test_001", overview=rng.integers(0, 255, (120, 160, 3), np.uint8), width_px=1600, height_px=1200, mpp=0.5,
        coords=coords, scores=scores, tile_level0_px=200, threshold=0.6, verdict="Tumour 0.93.", truth="tumour",
        outlines=[np.array([[10, 10], [200.4, 30], [90, 500]])],
        gallery={int(i): rng.integers(0, 255, (64, 64, 3), np.uint8) for i in highest_tiles(scores, 5)},
        facts={"model": "DSMIL"},
    )  # fmt: skip


def data_of(page):
    return json.loads(page.scripts[0])


def test_numbers_in_the_page_are_those_of_the_slide(slide):
    page = Page(slide_page(slide))
    data = data_of(page)
    decode = lambda text, kind: np.frombuffer(base64.b64decode(text), kind)
    assert (decode(data["coords"], "<i4").reshape(-1, 2) == slide.coords).all()
    assert decode(data["layers"][0]["values"], "<f4") == pytest.approx(slide.scores)
    cells = decode(data["layers"][0]["cells"], np.uint8).reshape(6, 8)
    assert ((cells - 1) / 254).ravel() == pytest.approx(slide.scores, abs=0.003)
    assert decode(data["colours"], np.uint8).shape == (768,)
    assert data["outlines"] == [[10, 10, 200, 30, 90, 500]]
    assert data["threshold"] == 0.6
    for words in ("test_001", "Tumour 0.93.", "Reference: tumour.", "1,600 × 1,200 px, 0.8 × 0.6 mm", "DSMIL"):
        assert words in page.text


def test_quality_is_layers_beside_the_scores(slide):
    sharpness, fold = np.linspace(0, 2000, 48).astype(np.float32), np.linspace(0, 0.5, 48).astype(np.float32)
    page = Page(slide_page(replace(slide, quality={"sharpness": sharpness, "fold": fold})))
    layers = {layer["name"]: layer for layer in data_of(page)["layers"]}
    assert list(layers) == ["tile score", "sharpness", "fold"]
    assert (layers["sharpness"]["most"], layers["fold"]["most"]) == (2000, 1)
    decode = lambda text, kind: np.frombuffer(base64.b64decode(text), kind)
    assert (decode(layers["sharpness"]["values"], "<f4") == sharpness).all()
    assert ((decode(layers["fold"]["cells"], np.uint8) - 1) / 254) == pytest.approx(fold, abs=0.003)
    assert len(page.named("select")) == 1 and "0 to 2e+03" in page.text
    assert not Page(slide_page(slide)).named("select")


def test_the_gallery_is_sorted_and_its_images_decode(slide):
    page = Page(slide_page(slide))
    tiles = [int(attrs["data-tile"]) for attrs in page.named("button") if "data-tile" in attrs]
    assert tiles == highest_tiles(slide.scores, 5).tolist()
    for attrs in page.named("img"):
        head, body = attrs["src"].split(",", 1)
        assert head == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(body))).size in [(160, 120), (64, 64)]
        assert attrs["alt"]


def test_nothing_is_loaded_from_elsewhere(slide):
    html = slide_page(slide)
    assert not re.findall(r"(?:https?:)?//[\w.]+\.\w|<link|@import|url\(|fetch\(|XMLHttpRequest|WebSocket", html)
    assert "default-src 'none'" in html
    assert [attrs.get("src") for attrs in Page(html).named("script")] == [None, None]


def test_text_of_users_is_escaped(slide):
    nasty = replace(
        slide, id=NASTY, verdict=NASTY, truth=NASTY, score_name=NASTY, facts={NASTY: NASTY}, gallery=slide.gallery
    )
    html = slide_page(nasty)
    page, plain = Page(html), Page(slide_page(slide))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert "alert(1)</script>" not in html
    assert NASTY in page.text


def test_a_slide_with_little_to_say(slide):
    bare = replace(slide, threshold=float("nan"), verdict="", truth="", outlines=(), gallery={}, facts={})
    page = Page(slide_page(bare))
    assert "Highest tiles" not in page.text
    assert not {"outlines", "at-threshold"} & set(page.ids)
    assert data_of(page)["threshold"] is None


def test_the_overview_is_bounded(slide, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (900, 5000, 3), np.uint8)
    monkeypatch.setattr(module, "OVERVIEW_BYTES", 200_000)
    (first, *_) = Page(slide_page(replace(slide, overview=noise))).named("img")
    assert len(first["src"]) * 3 / 4 < 201_000
    assert OVERVIEW_BYTES <= 3_000_000


@pytest.mark.parametrize(
    "change, words",
    [
        ({"coords": np.full((48, 2), 1300)}, "test_001: the tile at \\(1300, 1300\\) begins outside"),
        ({"scores": np.ones(47)}, "48 tiles, but 47 scores"),
        ({"scores": np.full(48, np.nan)}, "0..1"),
        ({"coords": np.zeros((0, 2)), "scores": np.zeros(0), "gallery": {}}, "no tile"),
    ],
)
def test_bad_slides_are_refused(slide, change, words):
    with pytest.raises(DataError, match=words):
        slide_page(replace(slide, **change))


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_script_parses():
    script = Path(module.__file__).parent / "templates/slide_page.js"
    done = subprocess.run(["node", "--check", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser")
def test_the_script_runs_in_a_browser(slide, tmp_path):
    write_slide_page(tmp_path / "page.html", slide)
    html = (tmp_path / "page.html").read_text()
    # Says at the end of the page what the page looks like then, or the error.
    probe = """<script>const told = [];
    addEventListener("error", (event) => told.push(event.message));
    document.getElementById("overview").decode().then(() => setTimeout(() => {
      document.getElementById("at-threshold").click();
      document.querySelector(".go").click();
      document.title = JSON.stringify({told, status: document.getElementById("status").textContent,
        shown: document.getElementById("threshold-text").textContent, ready: !!document.querySelector(".ready")});
    }, 200));</script></body>"""
    (tmp_path / "page.html").write_text(html.replace("</body>", probe))
    title, budget_ms = "", 5000
    while not title.startswith("{") and budget_ms < 50_000:  # decoding an image does not wait for virtual time
        done = subprocess.run(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--virtual-time-budget={budget_ms}", "--dump-dom",
             f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        title, budget_ms = re.search(r"<title>(.*?)</title>", done.stdout)[1], 2 * budget_ms
    seen = json.loads(title.replace("&quot;", '"'))
    best = int(np.argmax(slide.scores))
    x, y = slide.coords[best]
    expected = f"Tile at {x:,}, {y:,}: {slide.scores[best]:.3f}."
    assert seen == {"told": [], "status": expected, "shown": "0.600", "ready": True}
