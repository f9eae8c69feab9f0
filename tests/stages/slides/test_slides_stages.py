"""The slides task stage by stage through the command: every slide accounted for, nothing done twice, clear refusals."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest, read_predictions, write_manifest
from clinvit.datasets.slides.hdf5 import write_scores
from clinvit.datasets.slides.outlines import Outline, write_outlines
from clinvit.datasets.slides.tiles import TileGrid
from clinvit.eval import Evaluation
from clinvit.eval.localisation.froc import write_detections
from clinvit.mil.model import load_mil_card
from clinvit.mil.slide_encoder import TokenFeatures, load_tile_encoder
from clinvit.phantoms.slides import write_camelyon16, write_pyramid
from clinvit.stages.slides.localise import localised
from clinvit.tests.datasets.slides.dicom_slides import write_dicom_slide, write_instance
from PIL import Image

h5py = pytest.importorskip("h5py")
pytest.importorskip("openslide")

WITHOUT_SCALE = "normal_004"
WIDTH = 5 * 16
NORMAL, TUMOUR, TEST = 4, 3, 3
SLIDES = NORMAL + TUMOUR + TEST


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def encoder_folder(folder: Path, seed: int, width: int = 16) -> Path:
    """A random encoder of tiles of 64 px."""
    torch.manual_seed(seed)
    arch = Architecture(width, 4, 2, image_size=(64, 64), patch_size=16, channels=3)
    return save_encoder(folder, ViT(arch), EncoderCard(arch, (0.6, 0.5, 0.6), (0.2, 0.2, 0.2)))


def extraction(work: Path, out: Path, encoder: str = "encoder") -> list[str]:
    stages = ["--data", work / "manifest.csv", "--tiles", work / "tiles", "--encoder", work / encoder, "--out", out]
    return [str(argument) for argument in ["extract", "slides", "--recipe", "demo", *stages]]


def training(work: Path, features: Path, out: Path) -> list:
    few = ["--optim.epochs", 2, "--run.max_bad", 0.5]
    return ["finetune", "slides", "--recipe", "demo", "--data", work / "manifest.csv", "--features", features, "--out",
            out, *few]  # fmt: skip


def status(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "status.csv", keep_default_na=False).set_index("id")


def results(folder: Path) -> dict[str, int]:
    """Time of change of every result and state."""
    files = [*folder.glob("*.h5"), *folder.glob("status/*.json")]
    return {f"{path.parent.name}/{path.name}": path.stat().st_mtime_ns for path in files}


def told(output: str) -> None:
    assert f"{SLIDES} requested = {SLIDES - 1} ok + 1 failed + 0 open" in output


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """Slides, their manifest, tiles, features of a random encoder, a model and its predictions: all made once."""
    work = tmp_path_factory.mktemp("slides")
    write_camelyon16(work / "raw", normal=NORMAL, tumour=TUMOUR, test=TEST, size_px=(1472, 1536))
    assert main(["prepare", "slides", str(work / "raw"), "--out", str(work / "manifest.csv")]) == 0
    manifest = read_manifest(work / "manifest.csv")
    table = manifest.table.set_index("id", drop=False)
    table.loc[[name.startswith(("normal", "tumor")) for name in table.index], "split"] = "train"
    table.loc[["normal_002", "tumor_002"], "split"] = "val"
    write_manifest(work / "manifest.csv", table, manifest.labels, dict(manifest.meaning))
    encoder_folder(work / "encoder", seed=0)
    data = ["--recipe", "demo", "--data", work / "manifest.csv"]
    assert main([str(each) for each in ["tile", "slides", *data, "--out", work / "tiles"]]) == 0
    assert main(extraction(work, work / "features")) == 0
    assert main([str(each) for each in training(work, work / "features", work / "mil")]) == 0
    return work


@pytest.fixture(scope="session")
def mapped(work):
    """The run folder after `predict --explain` of validation and test and of the slide without a scale."""
    manifest = read_manifest(work / "manifest.csv")
    kept = manifest.table[(manifest.table["split"] != "train") | (manifest.table["id"] == WITHOUT_SCALE)]
    write_manifest(work / "asked.csv", kept, manifest.labels)
    run = work / "mil"
    wanted = ["--features", work / "features", "--explain", run / "explanations", "--tiff", "--tile-geojson"]
    arguments = ["predict", "slides", work / "asked.csv", "--model", run / "model", *wanted]
    assert main([str(each) for each in [*arguments, "--out", run / "predictions.csv"]]) == 0
    return run


def test_every_requested_slide_is_a_row(work):
    for folder, words in (("tiles", "no scale"), ("features", "this slide has no tiles")):
        table = status(work / folder)
        assert table["status"].value_counts().to_dict() == {"ok": SLIDES - 1, "failed": 1}
        reason = table.loc[WITHOUT_SCALE, "reason"]
        assert words in reason and "column `mpp`" in reason and "\n" not in reason
        assert {path.stem for path in (work / folder).glob("*.h5")} == set(table.index) - {WITHOUT_SCALE}
    tiles, features = status(work / "tiles").drop(WITHOUT_SCALE), status(work / "features").drop(WITHOUT_SCALE)
    assert (tiles["tiles"].astype(float) == features["tiles"].astype(float)).all()
    assert (features["width"].astype(float) == WIDTH).all()
    assert len(list((work / "tiles/images").glob("*.jpg"))) == SLIDES - 1


def test_a_second_run_does_nothing(work, capsys):
    for folder, arguments in (
        ("tiles", ["tile", "slides", "--recipe", "demo", "--data", work / "manifest.csv", "--out", work / "tiles"]),
        ("features", extraction(work, work / "features")),
    ):
        before = results(work / folder)
        code, output, _ = run(capsys, *arguments)
        told(output)
        # What failed is tried once more, and said again.
        changed = {name for name, when in results(work / folder).items() if before[name] != when}
        assert code == 0 and changed == {f"status/{WITHOUT_SCALE}.json"}


# Does two slides, then takes a third one into hand and stays with it.
STUCK = """
import sys, time
from clinvit.cli import main
from clinvit.mil import extract
real, done = extract.extract_slide, []

def stuck(*arguments):
    if len(done) == 2:
        time.sleep(600)
    done.append(real(*arguments))
    return done[-1]

extract.extract_slide = stuck
sys.exit(main(sys.argv[1:]))
"""


def start_and_get_stuck(work: Path, out: Path) -> subprocess.Popen:
    """`extract` in a process of its own; comes back when two slides are finished and the third is in hand."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, *extraction(work, out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    limit = time.monotonic() + 120
    while len(list(out.glob("status/*.lock"))) < 3:
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.05)
    return process


def test_processes_share_and_one_is_killed(work, tmp_path, monkeypatch, capsys):
    from clinvit.mil import extract

    real, journal = extract.extract_slide, []

    def noted(*arguments):
        facts = real(*arguments)
        journal.append(arguments[6])
        return facts

    out, names = tmp_path / "features", list(status(work / "features").index)
    process = start_and_get_stuck(work, out)
    before = results(out)
    assert {name for name in before if name.startswith("status/")} == {f"status/{name}.json" for name in names[:2]}
    monkeypatch.setattr(extract, "extract_slide", noted)
    code, output, _ = run(capsys, *extraction(work, out))
    assert code == 0 and f"{SLIDES - 2} ok + 1 failed + 1 open" in output
    assert status(out).loc[names[2], "status"] == "open" and journal == [
        name for name in names[3:] if name != WITHOUT_SCALE
    ]
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    journal.clear()
    code, output, _ = run(capsys, *extraction(work, out))
    told(output)
    assert code == 0 and journal == [names[2]]
    assert {name: when for name, when in results(out).items() if name in before} == before
    assert {path.name for path in out.glob("*.h5")} == {path.name for path in (work / "features").glob("*.h5")}
    for path in out.glob("*.h5"):
        with h5py.File(path) as one, h5py.File(work / "features" / path.name) as other:
            np.testing.assert_array_equal(one["features"][:], other["features"][:])


def test_a_folder_belongs_to_one_encoder(work, capsys):
    encoder_folder(work / "other", seed=1)
    before = results(work / "features")
    code, _, errors = run(capsys, *extraction(work, work / "features", "other"))
    assert code == 2 and errors.count("\n") == 1
    assert "this folder holds another run: encoder was" in errors and "Choose another --out" in errors
    assert results(work / "features") == before


def test_predictions_and_maps_are_written(mapped):
    table = read_predictions(mapped / "predictions.csv").table.set_index("id")
    assert len(table) == TEST + 3 and table["status"].value_counts().to_dict() == {"ok": TEST + 2, "failed": 1}
    failed = table.loc[WITHOUT_SCALE]
    assert failed["status"] == "failed" and np.isnan(failed["p_tumor"]) and "no scale" in failed["reason"]
    line = next(each for each in (mapped / "predictions.csv").read_text().splitlines() if WITHOUT_SCALE in each)
    assert line.endswith(",0,,"), "truth, and neither score nor call"
    scored, maps = set(table.index) - {WITHOUT_SCALE}, mapped / "explanations"
    for suffix in (".html", ".png", ".geojson", ".tif", ".tiles.geojson"):
        assert {path.name.removesuffix(suffix) for path in maps.glob(f"*_???{suffix}")} == scored, suffix
    tiles = json.loads(next(maps.glob("tumor_*.tiles.geojson")).read_text())["features"]
    assert all(list(tile["properties"]["measurements"]) == ["tumor score"] for tile in tiles)
    assert "tumor tile score" in next(maps.glob("test_*.html")).read_text()
    assert {path.stem for path in (maps / "scores").glob("*.h5")} == scored
    assert {path.stem for path in (maps / "detections").glob("*.csv")} == scored
    assert set(status(maps).index) == scored and (status(maps)["status"] == "ok").all()


def test_the_model_says_how_its_features_were_made(work):
    card = load_mil_card(work / "mil/model")
    assert card.width == WIDTH and card.features["encoder"].endswith("class4_mean")
    assert card.pipeline["tiling"]["tile_um"] == 64 and card.pipeline["extract"]["stain"]["method"] == "macenko"
    assert card.data["without_features"] == {"train": 1}


def test_evaluate_says_where(work, mapped, capsys):
    out = work / "report"
    code, _, _ = run(capsys, "evaluate", mapped, "--data", work / "manifest.csv", "--out", out, "--resamples", 20)
    assert code == 0
    (model,) = json.loads((out / "report.json").read_text())["models"]
    where = model["localisation"]
    assert 0 <= where["metrics"]["tile_auroc"]["value"] <= 1
    assert 0 <= where["froc"]["score"]["value"] <= 1 and where["froc"]["slides"] == TEST and where["froc"]["lesions"]
    page = (out / "report.html").read_text()
    links = [link for link in re.findall(r'href="([^"#]+)"', page) if link.endswith(".html")]
    assert {Path(link).stem for link in links} == {f"test_{k:03d}" for k in range(1, TEST + 1)}
    assert all((out / link).is_file() for link in links)
    assert "localisation_tile_auroc" in (out / "metrics.csv").read_text()


def test_a_raw_slide_is_tiled_and_encoded_as_for_the_training(work, tmp_path, capsys):
    known = read_predictions(work / "mil/predictions.csv").table.set_index("id")["p_tumor"]
    slides = [work / "raw/testing/images/test_001.tif", work / "raw/testing/images/test_002.tif"]
    bare = work / f"raw/training/normal/{WITHOUT_SCALE}.tif"
    wanted = ["--model", work / "mil/model", "--features", tmp_path / "features", "--out", tmp_path / "p.csv"]
    code, output, _ = run(capsys, "predict", "slides", *slides, bare, *wanted, "--encoder", work / "encoder")
    assert code == 0 and "3 requested = 2 ok + 1 failed" in output
    table = read_predictions(tmp_path / "p.csv").table.set_index("id")
    for name in ("test_001", "test_002"):
        assert table.loc[name, "p_tumor"] == pytest.approx(known[name], abs=1e-6)
    assert "no scale" in table.loc[WITHOUT_SCALE, "reason"]


def test_another_encoder_is_refused_before_any_slide_is_read(work, tmp_path, capsys):
    encoder_folder(work / "other", seed=1)
    wanted = ["--model", work / "mil/model", "--features", tmp_path / "features", "--out", tmp_path / "p.csv"]
    slide = work / "raw/testing/images/test_001.tif"
    code, _, errors = run(capsys, "predict", "slides", slide, *wanted, "--encoder", work / "other")
    assert code == 2 and errors.count("\n") == 1 and "not the encoder that the model was trained with" in errors
    assert not (tmp_path / "features").exists() and not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize(
    "encoder, width, words",
    [("other", 16, "encoder_sha256 is"), ("wide", 32, f"features of width {5 * 32}, but the model takes {WIDTH}")],
)
def test_other_features_are_refused(work, tmp_path, capsys, encoder, width, words):
    encoder_folder(work / encoder, seed=1, width=width)
    assert main(extraction(work, tmp_path / "features", encoder)) == 0
    wanted = ["--model", work / "mil/model", "--features", tmp_path / "features", "--out", tmp_path / "p.csv"]
    code, _, errors = run(capsys, "predict", "slides", work / "manifest.csv", *wanted)
    assert code == 2 and words in errors and errors.count("\n") == 1
    assert not (tmp_path / "p.csv").exists()


def test_features_of_other_tools(work, tmp_path, capsys):
    """Plain CLAM: two arrays and no word of encoder or tiles."""
    features = tmp_path / "features"
    features.mkdir()
    for path in (work / "features").glob("*.h5"):
        with h5py.File(path) as ours, h5py.File(features / path.name, "w") as theirs:
            theirs["features"], theirs["coords"] = ours["features"][:], ours["coords"][:]
    model = ["predict", "slides", work / "manifest.csv", "--features", features, "--out", tmp_path / "p.csv"]
    code, output, _ = run(capsys, *model, "--model", work / "mil/model", "--explain", tmp_path / "explanations")
    assert code == 0 and f"{SLIDES} requested = {SLIDES - 1} ok + 1 failed" in output
    known = read_predictions(work / "mil/predictions.csv").table.set_index("id")["p_tumor"].dropna()
    found = read_predictions(tmp_path / "p.csv").table.set_index("id")["p_tumor"]
    np.testing.assert_allclose(found[known.index], known, atol=1e-6)
    assert output.count("no heat map: ") == SLIDES - 1 and "does not say how large its tiles" in output
    assert main([str(each) for each in training(work, features, tmp_path / "mil")]) == 0
    code, _, errors = run(capsys, *model, "--model", tmp_path / "mil/model", "--encoder", work / "encoder")
    assert code == 2 and "made by other tools" in errors and errors.count("\n") == 1


def test_a_slide_that_changed_gets_no_map(work, tmp_path, capsys):
    folder = work / "raw/testing/images"
    write_pyramid(tmp_path / "test_001.tif", [np.full((1024, 1024, 3), 200, np.uint8)], mpp=0.5)
    wanted = ["--model", work / "mil/model", "--features", work / "features", "--explain", tmp_path / "explanations"]
    slides = [tmp_path / "test_001.tif", folder / "test_002.tif"]
    code, output, _ = run(capsys, "predict", "slides", *slides, *wanted, "--out", tmp_path / "p.csv")
    assert code == 0 and output.count("no heat map: ") == 1
    table = status(tmp_path / "explanations")
    assert table["status"].to_dict() == {"test_001": "failed", "test_002": "ok"}
    assert "Is it the same slide?" in table.loc["test_001", "reason"]
    assert (
        not (tmp_path / "explanations/test_001.html").exists() and (tmp_path / "explanations/test_002.html").is_file()
    )


@pytest.fixture
def mixed(work, tmp_path):
    """A folder with one good slide and four that are not."""
    folder = tmp_path / "slides"
    folder.mkdir()
    good = work / "raw/testing/images/test_001.tif"
    shutil.copy(good, folder / "good.tif")
    (folder / "text.tif").write_text("this is not a slide\n")
    (folder / "empty.svs").write_bytes(b"")
    (folder / "cut.tif").write_bytes(good.read_bytes()[:50_000])
    write_pyramid(folder / "glass.tif", [np.full((1024, 1024, 3), 243, np.uint8)], mpp=0.5)
    return folder


WRONG = {
    "text": "neither a slide",
    "empty": "an empty file",
    "cut": "cut off",
    "glass": "tissue",
    "gone": "no such file",
}


def test_what_is_no_slide_fails_alone(work, mixed, tmp_path, capsys):
    wanted = ["--model", work / "mil/model", "--features", tmp_path / "features", "--out", tmp_path / "p.csv"]
    slides = [mixed, mixed / "gone.tif"]
    code, output, errors = run(capsys, "predict", "slides", *slides, *wanted, "--encoder", work / "encoder")
    assert code == 0 and f"{len(WRONG) + 1} requested = 1 ok + {len(WRONG)} failed" in output, errors
    table = read_predictions(tmp_path / "p.csv").table.set_index("id")
    assert table.loc["good", "status"] == "ok" and 0 < table.loc["good", "p_tumor"] < 1
    for name, words in WRONG.items():
        row = table.loc[name]
        assert row["status"] == "failed" and np.isnan(row["p_tumor"])
        assert words in row["reason"] and f"{name}." in row["reason"] and "\n" not in row["reason"]
    assert set(status(tmp_path / "features/tiles").query("status == 'failed'").index) == set(WRONG)


def test_tiles_alone_of_nothing_but_broken_slides(mixed, tmp_path, capsys):
    table = pd.DataFrame({"id": ["text"], "path": [mixed / "text.tif"], "patient": ["p"], "split": ["test"]})
    table.to_csv(tmp_path / "manifest.csv", index=False)
    code, output, errors = run(capsys, "tile", "slides", "--data", tmp_path, "--out", tmp_path / "tiles")
    assert code == 0 and "1 requested = 0 ok + 1 failed + 0 open" in output, errors


def test_two_slides_of_one_name(work, tmp_path, capsys):
    for folder, name in (("a", "test_001"), ("b", "test_002")):
        (tmp_path / "slides" / folder).mkdir(parents=True)
        shutil.copy(work / f"raw/testing/images/{name}.tif", tmp_path / f"slides/{folder}/case.tif")
    wanted = ["--model", work / "mil/model", "--features", tmp_path / "features", "--out", tmp_path / "p.csv"]
    code, output, errors = run(capsys, "predict", "slides", tmp_path / "slides", *wanted, "--encoder", work / "encoder")
    assert code == 0 and "2 requested = 2 ok + 0 failed" in output, errors
    known = read_predictions(work / "mil/predictions.csv").table.set_index("id")["p_tumor"]
    found = read_predictions(tmp_path / "p.csv").table
    np.testing.assert_allclose(found["p_tumor"], known[["test_001", "test_002"]], atol=1e-6)
    assert found["id"].is_unique and len(list((tmp_path / "features").rglob("case*.h5"))) == 4

    rows = [("case", f"slides/{folder}/case.tif", folder, "test") for folder in "ab"]
    pd.DataFrame(rows, columns=["id", "path", "patient", "split"]).to_csv(tmp_path / "manifest.csv", index=False)
    code, _, errors = run(capsys, "tile", "slides", "--data", tmp_path, "--out", tmp_path / "tiles")
    assert code == 2 and "id 'case' stands twice" in errors and errors.count("\n") == 1


PERSON = ("SURNAME", "GIVEN", "MRN-77")


def test_no_name_of_a_dicom_slide_in_any_output(work, tmp_path, capsys):
    """One slide that goes well, one cut off; as files and by a manifest; run twice with the same ids."""
    pixels = Image.open(work / "raw/testing/images/test_001.tif").convert("RGB").crop((0, 0, 1408, 1408))
    pixels = np.asarray(pixels)
    named = {"PatientID": "MRN-77", "PatientName": "SURNAME^GIVEN"}
    write_dicom_slide(tmp_path / "in/a", "SURNAME_GIVEN_1950", pixels, **named)
    cut = write_instance(tmp_path / "in/b/SURNAME_GIVEN_1951.dcm", pixels, "1.2.9", **named)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    wanted = ["--model", work / "mil/model", "--features", tmp_path / "out/features", "--encoder", work / "encoder"]
    extra = ["--explain", tmp_path / "out/maps", "--tile-geojson", "--tiff", "--dicom", "sr,seg,pm,sc,pdf"]
    ids = []
    for name in ("p", "again"):
        asked = ["predict", "slides", tmp_path / "in", *wanted, "--out", tmp_path / f"out/{name}.csv", *extra]
        code, output, errors = run(capsys, *asked)
        assert code == 0 and "2 requested = 1 ok + 1 failed" in output, errors
        assert "2 x further file of a DICOM slide" in output
        assert not any(part in output + errors for part in PERSON)
        ids.append(read_predictions(tmp_path / f"out/{name}.csv").table["id"].tolist())
        extra = []
    assert ids[0] == ids[1]
    results = sorted((tmp_path / "out/p-dicom").glob("*.dcm"))  # which name the patient by purpose
    assert sorted(path.stem.rsplit("-", 1)[1] for path in results) == ["pdf", "sc", "sr", "sr"]  # one failed
    assert all(pydicom.dcmread(path).PatientID == "MRN-77" for path in results)
    keys = {tmp_path / "out/p.key.json", tmp_path / "out/again.key.json", tmp_path / "out/features/names.key.json"}
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert keys <= set(files) and len(files) > 20
    for path in set(files) - keys - set(results):
        assert not any(part in path.as_posix() or part.encode() in path.read_bytes() for part in PERSON), path
    code, output, errors = run(capsys, "predict", "slides", tmp_path / "in", *wanted, "--identifiers",
                               "--out", tmp_path / "named.csv")  # fmt: skip
    assert code == 0, errors
    table = read_predictions(tmp_path / "named.csv").table.set_index("id")
    assert table.loc["SURNAME_GIVEN_1950_1", "patient"] == "MRN-77"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["tile"], "no task: name one of slides"),
        (["tile", "thorax", "--data", "x", "--out", "y"], "task 'thorax': name one of slides"),
        (["tile", "slides", "--data", "gone.csv", "--out", "y"], "gone.csv"),
        (["tile", "slides", "--data", "{data}", "--out", "y", "--tile_pix", "64"], "did you mean 'tile_px'?"),
        (["extract", "slides", "--data", "x", "--out", "y", "--encoder", "e"], "--tiles is missing"),
        (["extract", "slides", "--data", "x", "--out", "y", "--tiles", "t"], "--encoder is missing"),
        (["extract", "slides", "--data", "{data}", "--out", "y", "--tiles", "gone", "--encoder", "{encoder}"],
         "gone: no such folder; `clinvit tile`"),
        (["finetune", "slides", "--data", "x", "--out", "y"], "--features is missing"),
        (["finetune", "slides", "--data", "x", "--out", "y", "--features", "f", "--cache", "c"], "not for slides"),
        (["finetune", "slides", "--data", "x", "--out", "y", "--features", "f", "--encoder", "e"], "not for slides"),
        (["finetune", "thorax", "--data", "x", "--out", "y", "--features", "f"], "is for slides, not for thorax"),
        (["pretrain", "slides", "--data", "x", "--out", "y"], "--tiles is missing"),
        (["pretrain", "slides", "--data", "x", "--out", "y", "--tiles", "t", "--cache", "c"], "not for slides"),
        (["predict", "slides", "x.tif", "--model", "m"], "--features is missing"),
        (["predict", "slides", "x.tif", "--model", "m", "--features", "f", "--tiff"], "--tiff belongs to --explain"),
        (["predict", "slides", "x.tif", "--model", "m", "--features", "f", "--tile-geojson"],
         "--tile-geojson belongs to --explain"),
        (["predict", "slides", "x.tif", "--model", "m", "--features", "f", "--batch", "4"], "not for slides"),
        (["predict", "thorax", "x.png", "--model", "m", "--tiff"], "--tiff is for slides, not for thorax"),
        (["predict", "slides", "{data}", "--model", "{model}", "--features", "f", "--split", "tset"],
         "no case in the splits tset"),
        (["predict", "thorax", "x.png", "--model", "{model}"], "slide"),
        (["prepare", "slides", "x", "--out", "y", "--cache-px", "64"], "slides are read tile by tile"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_line(work, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    places = {"data": work / "manifest.csv", "encoder": work / "encoder", "model": work / "mil/model"}
    code, _, errors = run(capsys, *[argument.format(**places) for argument in arguments])
    assert code == 2 and words in errors and errors.count("\n") == 1, errors
    assert not list(tmp_path.iterdir())


# Where the tumour is. Two tiles of 512 px; the first one is outlined.


@pytest.fixture
def outlined(tmp_path):
    """`outlined("part")` writes the map of a slide with two detections, one of them outside of the outline, and of a
    healthy slide; gives the maps' folder and the manifest.
    """
    square = np.array([[0, 0], [512, 0], [512, 512], [0, 512]], float)
    write_outlines(tmp_path / "ill.xml", [Outline(square, "_0", "Annotation 0", False)])
    grid = TileGrid(
        coords=np.array([[0, 0], [3584, 3584]]), tissue=np.ones(2, np.float32), tile_px=64, tile_um=512.0,
        overlap_um=0.0, tile_level0_px=512, mpp=1.0, width_px=4096, height_px=4096,
    )  # fmt: skip
    maps = tmp_path / "explanations"
    for name, scores, found in (
        ("ill", [0.6, 0.9], [[0.6, 256, 256], [0.9, 3840, 3840]]),
        ("healthy", [0.1, 0.2], [[0.2, 3840, 3840]]),  # the challenge takes no threshold from the smallest of all
    ):
        (maps / "detections").mkdir(parents=True, exist_ok=True)
        (maps / "scores").mkdir(exist_ok=True)
        write_scores(maps / f"scores/{name}.h5", np.array(scores), grid)
        write_detections(maps / f"detections/{name}.csv", np.array(found, float))

    def write(extent: str):
        rows = [
            ("ill", "ill.tif", "p0", "test", 1, "ill.xml", extent),
            ("healthy", "healthy.tif", "p1", "test", 0, "", ""),
            ("unknown", "unknown.tif", "p2", "test", "", "", ""),
        ]
        columns = ["id", "path", "patient", "split", "tumor", "annotation", "outlined"]
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "manifest.csv", index=False)
        return maps, read_manifest(tmp_path / "manifest.csv")

    return write


def test_what_lies_outside_of_whole_outlines_is_false(outlined):
    found = localised(*outlined("all"), "tumor", Evaluation(resamples=20))
    assert found.froc.slides == 2 and max(found.froc.fps_per_slide) == 0.5
    # The healthy tile of the ill slide has the highest score of all: the tumour tile beats two of three.
    assert found.metrics["tile_auroc"].value == pytest.approx(2 / 3)


def test_what_lies_outside_of_outlines_of_a_part_is_unknown(outlined):
    found = localised(*outlined("part"), "tumor", Evaluation(resamples=20))
    assert max(found.froc.fps_per_slide) == 0 and max(found.froc.sensitivity) == 1
    assert found.metrics["tile_auroc"].value == 1


def test_no_maps_no_metrics(outlined, tmp_path):
    _, manifest = outlined("all")
    assert localised(tmp_path / "nothing", manifest, "tumor") is None
    assert localised(tmp_path / "explanations", manifest, "tumor", Evaluation(split="val")) is None


# Encoders of tiles.


@pytest.mark.parametrize("kind, parts", [("class", "c"), ("mean", "m"), ("class_mean", "cm"), ("class4_mean", "cccCm")])
def test_features_are_tokens_of_the_last_blocks(kind, parts):
    torch.manual_seed(0)
    vit = ViT(Architecture(16, 6, 2, image_size=(32, 32), patch_size=16, channels=3)).eval()
    seen, x = [], torch.randn(3, 3, 32, 32)
    for block in vit.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.inference_mode():
        found = TokenFeatures(vit, kind)(x)
        layers = [vit.norm(tokens) for tokens in seen]
        classes = [tokens[:, 0] for tokens in (layers[-4:] if kind == "class4_mean" else layers[-1:])]
        wanted = [*(classes if kind != "mean" else []), *([layers[-1][:, 1:].mean(1)] if kind != "class" else [])]
    assert found.shape == (3, 16 * len(parts))
    torch.testing.assert_close(found, torch.cat(wanted, dim=1))


@pytest.fixture
def untrained(monkeypatch):
    """timm without a network: what it would fetch has random weights."""
    import timm

    real, asked = timm.create_model, []

    def create(name, pretrained=False, **options):
        asked.append((name, pretrained))
        return real(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create)
    return asked


def test_networks_of_timm(untrained):
    encoder = load_tile_encoder("timm:resnet10t", "pooled")
    assert untrained == [("resnet10t", True)] and encoder.name == "resnet10t" and not encoder.network.training
    assert encoder.check(64) == 512 and not any(weight.requires_grad for weight in encoder.parameters())
    tiles = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    pixels = (tiles.permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(tiles), encoder.network(pixels), atol=1e-4, rtol=1e-4)
    assert encoder.fingerprint() == encoder.fingerprint()
    assert encoder.fingerprint() != load_tile_encoder("timm:resnet10t", "pooled").fingerprint()


def test_tokens_of_timm(untrained, monkeypatch):
    import timm

    made = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: made(name, **options, global_pool=""))
    with pytest.raises(UserError, match="gives tokens, not one vector: take --features class"):
        load_tile_encoder("timm:vit_tiny_patch16_224", "pooled")
    widths = {kind: load_tile_encoder("timm:vit_tiny_patch16_224", kind).check(224) for kind in ("class", "mean")}
    assert widths == {"class": 192, "mean": 192}
    both = load_tile_encoder("timm:vit_tiny_patch16_224", "class_mean")
    tokens = both.network.network.forward_features(torch.zeros(1, 3, 224, 224))
    found = both.network(torch.zeros(1, 3, 224, 224))
    torch.testing.assert_close(found, torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1))


def test_a_network_that_takes_no_such_tiles_says_which(untrained):
    encoder = load_tile_encoder("timm:vit_tiny_patch16_224", "pooled")
    assert encoder.check(224) == 192
    with pytest.raises(UserError, match=r"takes no tiles of 64 px .* --tile_px 224"):
        encoder.check(64)


@pytest.mark.parametrize(
    "source, kind, words",
    [
        ("timm:resnet_of_nobody", "pooled", "timm knows no such network"),
        ("timm:resnet10t", "class", "gives --features pooled"),
        ("{encoder}", "pooled", "our own encoders give"),
        ("{encoder}", "last", "features 'last': one of class, mean"),
        ("{grey}", "class", "takes 1 channel"),
        ("{without}", "class_mean", "no class token; take --features mean"),
        ("nowhere", "class", "nowhere"),
    ],
)
def test_encoders_that_do_not_fit(tmp_path, untrained, source, kind, words):
    encoder_folder(tmp_path / "encoder", seed=0)
    for name, options in (("grey", {"channels": 1}), ("without", {"channels": 3, "class_token": False})):
        arch = Architecture(16, 1, 2, image_size=(32, 32), patch_size=16, **options)
        statistics = (0.5,) * arch.channels
        save_encoder(tmp_path / name, ViT(arch), EncoderCard(arch, statistics, statistics))
    places = {name: tmp_path / name for name in ("encoder", "grey", "without")}
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        load_tile_encoder(source.format(**places), kind)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_fetched(monkeypatch):
    import timm

    def offline(*_, **__):
        raise OSError("no route\nto host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"weights could not be had \(no route to host\)"):
        load_tile_encoder("timm:resnet10t", "pooled")


@pytest.fixture(scope="module")
def pooled(work):
    """Slide vectors as the model's attention makes them."""
    arguments = ["pool", "--data", work / "manifest.csv", "--features", work / "features", "--by", work / "mil/model"]
    assert main([str(each) for each in [*arguments, "--out", work / "vectors"]]) == 0
    return work / "vectors"


def test_slides_are_pooled_to_one_table_and_to_files_of_their_own(work, pooled):
    table = pd.read_csv(pooled / "features.csv", keep_default_na=False).set_index("id")
    values = np.load(pooled / "features.npy")
    assert len(table) == len(values) == SLIDES and values.dtype == np.float32
    assert table.loc[WITHOUT_SCALE, "status"] == "failed" and "no such file" in table.loc[WITHOUT_SCALE, "reason"]
    assert np.isnan(values[table.index.get_loc(WITHOUT_SCALE)]).all() and np.isfinite(values).all(axis=1).sum() == 9
    with h5py.File(pooled / "tumor_001.h5") as file:
        assert file["features"].shape == (values.shape[1],) and "pooled by" in file["features"].attrs["encoder"]
        assert file["coords"].shape == (table.loc["tumor_001", "tiles"], 2) == (len(file["attention"]), 2)
        np.testing.assert_array_equal(file["features"][:], values[table.index.get_loc("tumor_001")])
    facts = json.loads((pooled / "features.json").read_text())
    assert facts["values"] == values.shape[1] and facts["tile_features"]["tile_px"] == 64


def test_the_mean_of_the_tiles_is_pooled_without_a_model(work, tmp_path, capsys):
    out = tmp_path / "mean"
    code, words, errors = run(
        capsys, "pool", "--data", work / "manifest.csv", "--features", work / "features", "--out", out
    )
    assert code == 0 and f"{SLIDES} requested = {SLIDES - 1} ok + 1 failed" in words and WITHOUT_SCALE in errors
    with h5py.File(work / "features" / "tumor_001.h5") as file:
        mean = file["features"][:].mean(axis=0)
    place = pd.read_csv(out / "features.csv")["id"].tolist().index("tumor_001")
    np.testing.assert_allclose(np.load(out / "features.npy")[place], mean, atol=2e-3)


def test_features_of_another_encoder_are_not_pooled_by_a_model(work, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    for file in (work / "features").glob("*.h5"):
        shutil.copy(file, other)
        with h5py.File(other / file.name, "a") as changed:
            changed["features"].attrs["encoder"] = "another"
    arguments = ["pool", "--data", work / "manifest.csv", "--features", other, "--by", work / "mil/model"]
    code, _, errors = run(capsys, *arguments, "--out", tmp_path / "out")
    assert code == 2 and "encoder is 'another', but the model was trained on" in errors


def test_alike_slides_are_found_shown_and_judged(work, pooled, tmp_path, capsys):
    out = tmp_path / "retrieval"
    code, words, _ = run(
        capsys, "retrieve", "slides", "--data", work / "manifest.csv", "--vectors", pooled, "--out", out, "-k", 2
    )
    assert code == 0 and "precision at 2" in words and "no interval" in words
    found = pd.read_csv(out / "neighbours.csv")
    assert found.groupby("query")["rank"].max().eq(2).all() and (found["patient"] != found["neighbour_patient"]).all()
    page = (out / "retrieval.html").read_text()
    assert page.count("data:image/jpeg;base64") == 3 * found["query"].nunique() and "cannot be read" not in page
    assert set(json.loads((out / "retrieval.json").read_text())["labels"]) == {"tumor"}


def test_slides_of_a_number_and_a_time_are_mapped_and_reported(work, tmp_path, capsys):
    manifest = read_manifest(work / "manifest.csv")
    table = manifest.table.assign(cells=range(SLIDES), months=range(1, SLIDES + 1), died=[1, 1, 0, 1, 1] * 2)
    table.drop(columns=["tumor"]).to_csv(work / "valued.csv", index=False)
    kinds = {"cells": {"kind": "regression"}, "death": {"kind": "survival", "time": "months", "event": "died"}}
    (work / "valued.json").write_text(json.dumps({"targets": kinds}))
    arguments = training(work, work / "features", tmp_path / "run")
    arguments[arguments.index("--data") + 1] = work / "valued.csv"
    code, _, error = run(capsys, *arguments, "--data.labels", "[cells, death]")
    assert code == 0, error
    pixels = np.asarray(Image.new("RGB", (1024, 1024), (200, 120, 160))).copy()
    pixels[::7, ::5] = (90, 40, 110)
    write_dicom_slide(tmp_path / "in", "A_SLIDE", pixels, PatientName="A^B", PatientID="7")
    more = ["--encoder", work / "encoder", "--features", tmp_path / "features"]
    code, _, error = run(
        capsys, "predict", "slides", tmp_path / "in", "--model", tmp_path / "run/model", "--out", tmp_path / "p.csv",
        "--explain", tmp_path / "maps", "--dicom", "sr,pm,seg,sc", *more,
    )  # fmt: skip
    assert code == 0, error
    row = read_predictions(tmp_path / "p.csv", targets=True).table.iloc[0]
    (page,) = (tmp_path / "maps/cells").glob("*.html")
    assert f"cells: {row['value_cells']:.4g}" in page.read_text(encoding="utf-8")
    assert len(list((tmp_path / "maps/death").glob("*.html"))) == 1
    kinds = sorted(path.stem.split("-", 1)[1] for path in (tmp_path / "p-dicom").glob("*.dcm"))
    assert kinds == ["sc-1", "sc-2", "sr"]  # this slide does not say where it lies, so has no parametric map
