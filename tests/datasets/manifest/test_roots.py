"""Files of a manifest stay in its folder, or below the roots that the JSON beside it names."""

import json
import time

import h5py
import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import DataError
from clinvit.datasets.images.image_maps import case_file
from clinvit.datasets.manifest.roots import refuse_outside, signature_of
from clinvit.datasets.manifest.tables import for_spreadsheets, read_manifest, write_manifest
from clinvit.datasets.slides.bags import BagFolder
from clinvit.datasets.slides.hdf5 import read_tiles
from clinvit.datasets.slides.shared_work import slide_file
from PIL import Image


@pytest.fixture
def place(tmp_path):
    """`data/` with an image, `secret/` with another, and links from the first to the second."""
    for folder in ("data/images", "secret"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("L", (32, 32)).save(tmp_path / folder / "x.png")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret" / "x.png")
    (tmp_path / "data" / "folder").symlink_to(tmp_path / "secret")
    (tmp_path / "data" / "inner.png").symlink_to("images/x.png")
    (tmp_path / "data-2").mkdir()
    return tmp_path


def manifest(folder, file, column="path"):
    table = pd.DataFrame({"id": ["a", "b"], "path": "images/x.png", "patient": ["1", "2"], "split": "train"})
    table[column] = ["images/x.png", file]
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def grant(folder, roots, **more):
    """The JSON beside the manifest as `prepare` writes it, with the user's key."""
    facts = {"roots": roots, "signature": signature_of(folder / "manifest.csv", roots)} | more
    (folder / "manifest.json").write_text(json.dumps(facts))


INSIDE = [
    "images/x.png",
    "./images/../images/x.png",
    "images",
    "inner.png",
    "no.png",
    "..x/y.png",
    "a b/..c.png",
]
OUTSIDE = ["../secret/x.png", "images/../../secret/x.png", "/etc/passwd", "link.png", "folder/x.png", "folder", "..",
           "../data-2/x.png", "images/../.."]  # fmt: skip


@pytest.mark.parametrize("file", INSIDE)
def test_files_below_the_manifest_are_read(place, file):
    assert len(read_manifest(manifest(place / "data", file))) == 2
    assert len(read_manifest(manifest(place / "data", str((place / "data" / file).absolute())))) == 2


@pytest.mark.parametrize("file", OUTSIDE)
@pytest.mark.parametrize("column", ["path", "annotation"])
def test_files_outside_are_refused_with_both_remedies(place, file, column):
    with pytest.raises(DataError, match=rf"row 3: the {column} .* --data-root .* manifest.json beside it"):
        read_manifest(manifest(place / "data", file, column))


@pytest.mark.parametrize("root", ["../secret", "absolute", "../"])
def test_a_root_beside_the_manifest_allows_them(place, root):
    root = str(place / "secret") if root == "absolute" else root
    grant(place / "data", [root])
    for file in ("../secret/x.png", "link.png", "folder/x.png", str(place / "secret" / "x.png")):
        read_manifest(manifest(place / "data", file))
    with pytest.raises(DataError, match="leads out"):
        read_manifest(manifest(place / "data", "/etc/passwd"))


@pytest.mark.parametrize("granted", ["", "/no/such", "data", "secret/x", "secret-2"])
def test_a_manifest_from_elsewhere_grants_itself_nothing(place, monkeypatch, granted):
    """Its JSON comes with it, so whoever runs the command can say which roots may be granted at all."""
    (place / "data" / "manifest.json").write_text(json.dumps({"roots": ["../secret"]}))
    path = manifest(place / "data", "../secret/x.png")
    monkeypatch.setenv("CLINVIT_ROOTS", granted and str(place / granted))
    with pytest.raises(DataError, match=r"manifest.json: its root .*secret is not below a folder of CLINVIT_ROOTS"):
        read_manifest(path)
    monkeypatch.setenv("CLINVIT_ROOTS", f"/no/such:{place / 'secret'}")
    read_manifest(path)
    monkeypatch.setenv("CLINVIT_ROOTS", "")
    (place / "data" / "manifest.json").write_text(json.dumps({"roots": ["images", "."]}))
    read_manifest(manifest(place / "data", "images/x.png"))


@pytest.mark.parametrize("forged", ["none", "another key", "other roots", "words", "number"])
def test_roots_that_nobody_with_the_key_has_written_count_for_nothing(place, monkeypatch, forged):
    """Without a word of who runs the command: a data set from elsewhere brings roots, and perhaps a signature."""
    monkeypatch.delenv("CLINVIT_ROOTS", raising=False)
    path = manifest(place / "data", "../secret/x.png")
    grant(place / "data", ["../secret"])
    read_manifest(path)
    if forged == "another key":
        monkeypatch.setenv("CLINVIT_KEY", "fedcba9876543210 of another")
    facts = {
        "none": {"roots": ["../secret"]},
        "another key": {},
        "other roots": {"roots": ["../secret", "/"], "signature": signature_of(path, ["../secret"])},
        "words": {"roots": ["../secret"], "signature": "\u00e9" * 16},
        "number": {"roots": ["../secret"], "signature": 7},
    }[forged]
    if facts:
        (place / "data" / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"manifest.json: nobody with your key .* CLINVIT_ROOTS=/"):
        read_manifest(path)
    monkeypatch.setenv("CLINVIT_ROOTS", "/" if forged == "other roots" else str(place / "secret"))
    read_manifest(path)


def test_prepare_names_the_data_set_as_a_root_and_no_other(place, capsys):
    own = manifest(place / "data", "images/x.png").rename(place / "data" / "own.csv")
    common = ["--option", "labels=[]", "--option", "id_column=id", "--out", str(place / "lists" / "manifest.csv")]
    assert main(["prepare", "thorax", str(own), *common]) == 0
    made = read_manifest(place / "lists" / "manifest.csv", labels=())
    beside = json.loads((place / "lists" / "manifest.json").read_text())
    assert beside["signature"] == signature_of(place / "lists" / "manifest.csv", ["../data"])
    assert {name: beside[name] for name in ("roots", "holds")} == {"roots": ["../data"], "holds": "radiograph"}
    assert all(file.is_file() for file in made.files())
    manifest(place / "data", str(place / "secret" / "x.png")).rename(own)
    assert main(["prepare", "thorax", str(own), *common]) == 2
    assert "--data-root" in capsys.readouterr().err
    assert main(["prepare", "thorax", str(own), *common, "--data-root", str(place / "secret")]) == 0
    assert all(file.is_file() for file in read_manifest(place / "lists" / "manifest.csv", labels=()).files())


def test_a_manifest_that_is_written_anew_takes_no_roots_over(place):
    path = manifest(place / "data", "images/x.png")
    table = pd.read_csv(path, dtype=str)
    write_manifest(path, table, (), {"Mass": "seen"}, ["/"])
    assert read_manifest(path, ()).meaning == {"Mass": "seen"}
    write_manifest(path, table)
    assert json.loads(path.with_suffix(".json").read_text()) == {}
    path.with_suffix(".json").write_text('{"roots": 7}')
    with pytest.raises(DataError, match="roots"):
        read_manifest(path, ())


def test_a_hundred_thousand_files_are_looked_at_in_seconds(place):
    files = pd.Series([f"images_{i % 12:03d}/{i:08d}_000.png" for i in range(112_120)])
    began = time.monotonic()
    refuse_outside(place / "data" / "manifest.csv", "path", files, [])
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["../../x", "..", ".", "/etc/x", "a/../../b", "..\\x"])
def test_an_id_names_no_file_outside_of_its_folder(tmp_path, name):
    folder = tmp_path / "features"
    folder.mkdir()
    with pytest.raises(DataError, match="no name for a file"):
        slide_file(folder, name)
    made = case_file(folder, name, ".png")
    assert made.parent == folder and not made.name.startswith("..")
    assert case_file(folder, name, "").resolve().parent == folder.resolve()
    # A file that is there, and would be read.
    with h5py.File(tmp_path.parent / "x.h5", "w") as file:
        file["features"] = np.zeros((2, 4), np.float32)
    with pytest.raises(DataError):
        BagFolder([name], folder)


@pytest.mark.parametrize("how", ["external link", "external storage", "virtual", "soft link"])
def test_features_that_point_at_another_file_are_refused(tmp_path, how):
    (tmp_path / "other.bin").write_bytes(b"\0" * 64)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["coords"] = np.zeros((4, 2), np.int64)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if how == "external link":
            file["coords"] = h5py.ExternalLink("other.h5", "coords")
        elif how == "soft link":
            file["hidden/coords"] = np.zeros((4, 2), np.int64)
            file["coords"] = h5py.SoftLink("/hidden/coords")
        elif how == "external storage":
            file.create_dataset("coords", (4, 2), np.int64, external=[(str(tmp_path / "other.bin"), 0, 64)])
        else:
            layout = h5py.VirtualLayout((4, 2), np.int64)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "coords", (4, 2))
            file.create_virtual_dataset("coords", layout)
    with pytest.raises(DataError, match="refused: `coords` points at another place"):
        read_tiles(tmp_path / "a.h5")


def test_texts_that_a_spreadsheet_would_run():
    table = pd.DataFrame({"id": ["=1+1", "@x", "-a", "fine", None], "n": [-1.5, 2, 3, 4, 5], "+c": 1})
    shown = for_spreadsheets(table)
    assert shown["id"].tolist()[:4] == ["'=1+1", "'@x", "'-a", "fine"] and shown["id"].isna()[4]
    assert shown["n"].tolist() == [-1.5, 2, 3, 4, 5] and list(shown) == ["id", "n", "'+c"]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a\n=cmd()", "a\n'=cmd()"), ("a\r\n@x", "a\r\n'@x"), ("a; =cmd()", "a; '=cmd()"), ("a,-cmd()", "a,'-cmd()"),
        ("\uff1dcmd()", "'\uff1dcmd()"), ("\uff0b1|x", "'\uff0b1|x"), ("a\u2028\uff20x", "a\u2028'\uff20x"),
        ("  =x", "  '=x"), ('"=x', '"\'=x'), ("\ufeff=x", "\ufeff'=x"), ("a\t=x", "a\t'=x"), ("\t=x", "'\t'=x"),
        ("a;\n =x", "a;\n '=x"), ("|x", "'|x"), ("-1+cmd()", "'-1+cmd()"), ("-1.5", "-1.5"), ("+2e-3", "+2e-3"),
        ("0.1, -0.2", "0.1, -0.2"), ("1; -2; =x", "1; -2; '=x"), ("a-b = c", "a-b = c"), ("", ""),
    ],
)  # fmt: skip
def test_no_part_of_a_cell_is_a_formula(text, shown):
    """Also where a line or a list ends, for programs that take that for the end of a cell, and in full-width signs."""
    assert for_spreadsheets(pd.DataFrame({"a": [text]}))["a"].tolist() == [shown]
