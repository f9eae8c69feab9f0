"""Exported models without torch: `predict --runtime onnx` and `clinvit-runtime` write the table of `predict`."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from clinvit import __version__
from clinvit.cli import main
from clinvit.core.files import write_json
from clinvit.datasets.images import resampling
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.finetune.model import load_card
from clinvit.stages.exported import FACTS, graph_facts, preprocessing_facts
from clinvit.stages.facts import model_facts
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "torchvision",
    "pandas",
    "lightning",
    "timm",
    "scipy",
    "sklearn",
    "cv2",
    "h5py",
    "gdcm",
    "safetensors",
)
LIGHT = "import sys; from clinvit.cli.light_command import main; sys.exit(main(sys.argv[1:]))"
CALIBRATION = {"method": "platt", "slope": 1.5, "intercept": -0.2, "split": "val", "cases": 9, "reason": ""}


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_images):
    """PNG images, one of them broken; and DICOM files, plain and JPEG 2000, two of one patient."""
    folder = tmp_path_factory.mktemp("files")
    shutil.copytree(small_images(4, [2]), folder / "png")
    for number, syntax in enumerate((None, JPEG2000Lossless, None)):
        write_dicom(folder / f"{number}.dcm", number, syntax)
    return folder


def write_dicom(path, number, syntax):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        DigitalXRayImageStorageForPresentation,
        generate_uid(),
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.Modality, data.BodyPartExamined = f"P{number // 2}", "DX", "CHEST"
    data.ViewPosition = "PA"
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 90, 77, 1, "MONOCHROME1"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = np.random.default_rng(number).integers(0, 4096, (90, 77), np.uint16).tobytes()
    if syntax is not None:
        data.compress(syntax)
    data.save_as(path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, random_model):
    """An exported folder whose graph was made by hand: the sigmoid of means over the quarters of the image."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("exported")
    thresholds = {
        label: {"value": cut, "how": "youden", "split": "val"} for label, cut in (("Square", 0.0), ("Bar", 1.0))
    }
    model = random_model(thresholds=thresholds, calibration=dict.fromkeys(("Square", "Bar"), CALIBRATION))
    helper, numbers = onnx.helper, onnx.numpy_helper
    weight = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    constants = [numbers.from_array(weight, "weight"), numbers.from_array(np.array([0, 4]), "shape")]
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["quarters"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Reshape", ["quarters", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    value = helper.make_tensor_value_info
    inputs = [value("pixels", onnx.TensorProto.FLOAT, ["batch", 1, 32, 32])]
    outputs = [value("probabilities", onnx.TensorProto.FLOAT, ["batch", 2])]
    graph = helper.make_graph(nodes, "quarters", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(made, out / "model.onnx")
    card = load_card(model)
    facts = card.input_facts() | model_facts(model, card) | {"preprocessing": preprocessing_facts(card)}
    write_json(out / FACTS, facts | {"graphs": graph_facts(out)})
    return out


def without(folder, names):
    """The environment of a process in which some packages are not installed, nor in those that it starts."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name}', name='{name}')\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def light(tmp_path, *arguments):
    command = [sys.executable, "-c", LIGHT, "predict", *map(str, arguments)]
    environment = without(tmp_path / "without", HEAVY)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("rule", ["max", "mean"])
def test_a_graph_scores_patients_as_the_rule_says(exported, files, tmp_path, rule):
    out = tmp_path / "predictions.csv"
    words = ["predict", "images", files, "--model", exported, "--runtime", "onnx", "--out", out, "--unit", "patient"]
    assert main([str(word) for word in [*words, "--unit-rule", rule, "--identifiers"]]) == 0
    units, images = (read_predictions(tmp_path / f"predictions{part}.csv").table for part in ("", ".images"))
    for row in units[units["status"] == "ok"].to_dict("records"):
        own = images[(images["patient"] == row["id"]) & (images["status"] == "ok")]
        assert row["p_Square"] == pytest.approx(getattr(own["p_Square"], rule)(), abs=1e-6)
    facts = json.loads(out.with_suffix(".model.json").read_text())
    assert facts["aggregation"] == {"unit": "patient", "rule": rule} and facts["thresholds"] == {}
    assert "pred_Square" in images and "pred_Square" not in units and len(units) < len(images)


def test_without_torch_pandas_scipy_and_opencv_the_table_is_the_same_to_the_byte(exported, files, tmp_path):
    done = light(tmp_path, files, "--model", exported, "--out", tmp_path / "light.csv", "--identifiers")
    assert done.returncode == 0, done.stderr
    assert "7 requested = 6 ok + 1 failed" in done.stdout and "2.png" in done.stderr
    whole = ["predict", "images", files, "--model", exported, "--out", tmp_path / "whole.csv", "--identifiers"]
    assert main([str(word) for word in [*whole, "--runtime", "onnx"]]) == 0
    assert (tmp_path / "light.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    table = read_predictions(tmp_path / "light.csv").table
    assert table["status"].tolist().count("failed") == 1 and table["view"].tolist().count("PA") == 3
    assert set(table["pred_Square"].astype(str)) == {"1", ""} and set(table["pred_Bar"].astype(str)) == {"0", ""}
    said, other = (json.loads((tmp_path / f"{name}.model.json").read_text()) for name in ("light", "whole"))
    assert said.items() <= other.items() and other.keys() - said.keys() == {"seen"}


def test_names_of_dicom_files_are_hashed_without_pandas_too(exported, files, tmp_path):
    done = light(tmp_path, files, "--model", exported, "--out", tmp_path / "p.csv")
    assert done.returncode == 0, done.stderr
    text, key = (tmp_path / "p.csv").read_text(), json.loads((tmp_path / "p.key.json").read_text())
    table = read_predictions(tmp_path / "p.csv").table
    hashed = table[table["view"] == "PA"]
    assert not {"P0", "P1"} & set(table["patient"]) and ".dcm" not in text
    assert hashed["id"].str.len().eq(16).all() and hashed["patient"].nunique() == 2
    assert sorted(Path(key["files"][name]).name for name in hashed["id"]) == ["0.dcm", "1.dcm", "2.dcm"]


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_a_transfer_syntax_without_its_decoder_says_what_to_install(name, exported, tmp_path):
    from pydicom.data import get_testdata_file

    done = light(tmp_path, get_testdata_file(name, download=False), "--model", exported, "--out", tmp_path / "p.csv")
    assert done.returncode == 1 and "no decoder for the transfer syntax" in done.stderr
    assert "pip install python-gdcm" in (tmp_path / "p.csv").read_text()


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda folder: (folder / FACTS).unlink(), "not an exported model"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"other"), "damaged or replaced"),
        (lambda folder: (folder / "model.onnx").unlink(), "no such file"),
        (lambda folder: change(folder, "preprocessing", None), "does not say how files are read"),
        (lambda folder: change(folder, "graphs", {}), "no graph of this folder"),
        (lambda folder: change(folder, "mean", 3), "not a readable card"),
    ],
)
def test_what_is_no_exported_folder_is_one_line(spoil, words, exported, files, tmp_path, capsys):
    folder = shutil.copytree(exported, tmp_path / "folder")
    spoil(folder)
    out = tmp_path / "p.csv"
    assert main(["predict", "images", str(files), "--model", str(folder), "--runtime", "onnx", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not out.exists()


def change(folder, key, value):
    said = json.loads((folder / FACTS).read_text()) | {key: value}
    write_json(folder / FACTS, {name: each for name, each in said.items() if each is not None})


MANIFEST = """id;path;patient;split;Square;Bar;age
c0;png/0.png; Müller;test;1;;41,5
c1;png/1.png;P 1;val;0,0;1;30
c2;png/2.png;c2;test;;n/a;
c3;png/3.png;P 1;val;0;0;77
c4;0.dcm;P7;train;1;1;1
"""


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
def test_a_manifest_gives_the_table_that_the_whole_of_clinvit_gives(encoding, exported, files, tmp_path):
    folder = shutil.copytree(files, tmp_path / "data")
    (folder / "manifest.csv").write_text(MANIFEST, encoding=encoding)
    done = light(tmp_path, folder / "manifest.csv", "--model", exported, "--out", tmp_path / "light.csv")
    assert done.returncode == 0 and "5 requested = 4 ok + 1 failed" in done.stdout, done.stderr
    whole = ["predict", "images", folder / "manifest.csv", "--model", exported, "--out", tmp_path / "whole.csv"]
    assert main([str(word) for word in [*whole, "--runtime", "onnx"]]) == 0
    assert (tmp_path / "light.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    table = read_predictions(tmp_path / "light.csv").table
    assert table["patient"].tolist() == ["Müller", "P 1", "c2", "P 1", "P7"]
    assert table["y_Square"].fillna(-1).tolist() == [1, 0, -1, 0, 1] and table["y_Bar"].isna().sum() == 2


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("c3;png/3.png", "c1;png/3.png", "id 'c1' stands twice"),
        ("P 1;val;0;0", "P 1;test;0;0", "patient 'P 1' is in test and val"),
        (";val;0,0", ";later;0,0", "split 'later'"),
        ("P7;", " ;", "the cell 'patient' is empty"),
        ("P7;", "n/a;", "names nobody"),
        ("1;1;1\n", "2;1;1\n", "Square is 2"),
        ("png/1.png", "../other/1.png", "leads out of the manifest's folder"),
        (";split;", ";spilt;", "no column 'split' (did you mean 'spilt'?)"),
        ("1;1;1\n", "1;1;1;5\n", "row 6 has 8 cells, the header 7"),
    ],
)
def test_a_manifest_that_the_whole_refuses_is_refused(old, new, words, tmp_path):
    from clinvit.core.errors import DataError
    from clinvit.datasets.manifest.manifest_columns import manifest_columns
    from clinvit.datasets.manifest.tables import read_manifest

    path = tmp_path / "data/manifest.csv"
    path.parent.mkdir()
    path.write_text(MANIFEST)
    manifest_columns(path, ("Square",))
    path.write_text(MANIFEST.replace(old, new, 1))
    with pytest.raises(DataError):
        read_manifest(path)
    with pytest.raises(DataError, match=re.escape(words)):
        manifest_columns(path, ("Square",))


def test_labels_that_the_whole_takes_for_none_are_unknown(tmp_path):
    from clinvit.datasets.manifest.manifest_columns import manifest_columns
    from clinvit.datasets.manifest.tables import read_manifest

    (tmp_path / "m.csv").write_text("id,path,patient,split,portable,Bar,Mass\na,a,1,val,1,yes,1\nb,b,2,val,0,no,0\n")
    labels = ("portable", "Bar", "Mass", "Square")
    for beside in ({}, {"labels": ["portable"]}):
        write_json(tmp_path / "m.json", beside)
        _, truth = manifest_columns(tmp_path / "m.csv", labels)
        np.testing.assert_array_equal(truth, read_manifest(tmp_path / "m.csv").truth(labels))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_and_resumed_it_is_the_table_of_one_that_was_not(exported, files, tmp_path):
    whole = ["--model", exported, "--batch", "2", "--out"]
    done = light(tmp_path, files, *whole, tmp_path / "whole.csv", "--identifiers")
    assert done.returncode == 0, done.stderr
    dies = (
        "import sys, os, signal; from clinvit.stages.journal import Journal; append = Journal.append\n"
        "def killed(self, paths, scores, reasons):\n"
        "    append(self, paths[:1], scores[:1], reasons[:1]); killed.lines += 1\n"
        "    if killed.lines == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    append(self, paths[1:], scores[1:], reasons[1:])\n"
        "killed.lines = 0; Journal.append = killed\n"
    )
    command = [str(each) for each in (files, *whole, tmp_path / "cut.csv", "--identifiers", "--resume")]
    died = subprocess.run([sys.executable, "-c", dies + LIGHT, "predict", *command], capture_output=True, check=False)
    assert died.returncode == -9 and not (tmp_path / "cut.csv").exists()
    journal = tmp_path / "cut.csv.partial.jsonl"
    assert journal.read_text().count("\n") == 6  # what made it, two batches, and half of the third
    again = subprocess.run(
        [sys.executable, "-c", LIGHT, "predict", *command], capture_output=True, text=True, check=True
    )
    assert "7 requested" in again.stdout and not journal.exists()
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_batch_that_was_kept_in_part_is_scored_as_a_whole(tmp_path):
    """Of an int8 graph with ranges found per batch, the scores of a case depend on what else is in it."""
    from clinvit.finetune.scored import Scored, collected
    from clinvit.stages.journal import Journal
    from clinvit.stages.journalled import JournalledPredictor
    from clinvit.stages.share import Alone

    class OfBatches:
        card = SimpleNamespace(labels=("a",), unit="image")

        def scores(self, cases):
            for start in range(0, len(cases["path"]), 3):
                some = [int(path) for path in cases["path"][start : start + 3]]
                yield Scored(
                    range(start, start + len(some)), np.array([[sum(some) / 99]] * len(some)), [""] * len(some)
                )

    cases, out = {"path": [str(number) for number in range(8)]}, tmp_path / "p.csv"

    def made(lines):
        if lines is not None:
            (tmp_path / "p.csv.partial.jsonl").write_text("".join(whole[: lines + 1]))
        journal = Journal(out, {"model": "m"}, resume=lines is not None)
        scores, _ = collected(JournalledPredictor(OfBatches(), journal, Alone(out), 3).scores(cases), 8, 1)
        return scores[:, 0].tolist()

    first = made(None)
    whole = (tmp_path / "p.csv.partial.jsonl").read_text().splitlines(keepends=True)
    assert all(made(lines) == first for lines in range(9))


def test_columns_are_written_as_a_table_is(tmp_path):
    from clinvit.datasets.manifest.prediction_columns import prediction_columns, write_columns

    cases = {"id": ['a,"b', "é\nf", "g"], "patient": ["1", " 2", ""], "split": ["new"] * 3}
    truth = np.array([[1, np.nan], [0, 1], [np.nan, 0]])
    scores = np.array([[1e-9, 1 / 3], [0.1, 1], [np.nan] * 2])
    reasons = ["", "", "x.png: broken, 'cut'"]
    write_columns(tmp_path / "a.csv", prediction_columns(cases, ("m", "n"), truth, scores, reasons))
    write_predictions(tmp_path / "b.csv", predictions_table(cases, ("m", "n"), truth, scores, reasons))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(
    "size, to", [((97, 61), (32, 20)), ((64, 96), (32, 48)), ((90, 60), (30, 20)), ((80, 61), (20, 61))]
)
def test_areas_are_averaged_without_opencv_to_the_bit(size, to, channels, monkeypatch):
    levels = (np.random.default_rng(0).integers(0, 4096, (*size, *channels)) / np.float32(4095)).astype(np.float32)
    wanted = resampling.area_averaged(levels, *to)
    monkeypatch.setattr(resampling, "cv2", None)
    np.testing.assert_array_equal(resampling.area_averaged(levels, *to), wanted)


def test_the_light_distribution_has_the_bounds_and_the_version_of_the_whole():
    own, whole = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in ("runtime", "")
    )
    extras = {bound for part in whole["optional-dependencies"].values() for bound in part}
    own_bounds = {*own["dependencies"], *(bound for part in own["optional-dependencies"].values() for bound in part)}
    assert own_bounds <= {*whole["dependencies"], *extras} and own["version"] == __version__


def needed_files():
    spec = importlib.util.spec_from_file_location("runtime_setup", ROOT / "runtime/setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.needed()


def test_the_light_distribution_holds_no_module_of_training():
    names = {file.as_posix() for file in needed_files()}
    assert {"stages/light_predict.py", "datasets/images/dicom.py"} <= names
    assert not [name for name in names if name.startswith(("engine/", "pretrain/", "mil/", "tasks/", "backbone/"))]
    assert not names & {"finetune/model.py", "finetune/pipeline.py", "datasets/manifest/tables.py"}


@pytest.mark.slow
def test_an_empty_environment_predicts_what_torch_predicts(random_model, files, tmp_path):
    pytest.importorskip("onnxruntime")
    if shutil.which("uv") is None:
        pytest.skip("no uv to make an empty environment with")
    model, folder, python = random_model(), tmp_path / "exported", tmp_path / "empty/bin/python"
    subprocess.run(["uv", "venv", "-q", str(tmp_path / "empty")], check=True)
    source = shutil.copytree(
        ROOT / "runtime", tmp_path / "source/runtime", ignore=shutil.ignore_patterns("build", "*.egg-info")
    )
    for file in needed_files():
        (source.parent / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, source.parent / file)
    command = ["uv", "pip", "install", "-q", "--python", str(python), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be installed here: {done.stderr.strip()[:200]}")
    megabytes = sum(path.stat().st_size for path in (tmp_path / "empty").rglob("*") if not path.is_symlink()) / 1e6
    assert megabytes < 200
    assert main(["export", str(model), "--to", "onnx", "--out", str(folder)]) == 0
    names = {"torch": tmp_path / "torch.csv", "light": tmp_path / "light.csv"}
    assert (
        main(["predict", "images", str(files), "--model", str(model), "--out", str(names["torch"]), "--identifiers"])
        == 0
    )
    command = [str(python.with_name("clinvit-runtime")), "predict", files, "--model", folder, "--out", names["light"]]
    subprocess.run([*map(str, command), "--identifiers"], check=True, timeout=300)
    own, light = (read_predictions(path) for path in (names["torch"], names["light"]))
    assert own.table.drop(columns=["p_Square", "p_Bar"]).equals(light.table.drop(columns=["p_Square", "p_Bar"]))
    np.testing.assert_allclose(light.scores(), own.scores(), atol=1e-4)
