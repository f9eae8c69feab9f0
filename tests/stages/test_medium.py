"""All stages on a medium as hospitals hand it out: every file is accounted for, and nobody's name leaves it."""

import json

import numpy as np
import pandas as pd
from clinvit import load
from clinvit.cli import main
from clinvit.tests.datasets.images.test_dicom import dicom, saved
from clinvit.tests.datasets.manifest.test_contents import radiograph, report
from clinvit.tests.reliability.test_privacy import search
from clinvit.tests.reliability.work import TINY
from pydicom.uid import BasicTextSRStorage, CTImageStorage, MediaStorageDirectoryStorage

PATIENTS = 14
SUFFIXES = ("", ".dcm", ".ima", ".png", ".1.2.840")
NAMES = {name.encode(): name for name in ("Quixadotter", "Yvaine", "MRN-", "QUIXADOTTER", "quixadotter")}


def write_medium(root):
    """X-rays of 14 patients, two each, of one in three a lateral; and all that lies beside them on a CD."""
    for number in range(2 * PATIENTS):
        patient = number // 2
        noise = np.random.default_rng(number).integers(0, 4096, (64, 64), np.uint16)
        view = "LL" if number % 2 and patient % 3 == 0 else "PA"
        dataset = dicom(noise, 12, Modality="DX", PatientID=f"MRN-{patient}", ViewPosition=view)
        dataset.PatientName = f"Quixadotter^Yvaine{patient}"
        folder = root / f"DICOM/QUIXADOTTER_{patient}"
        folder.mkdir(parents=True, exist_ok=True)
        path = saved(dataset, folder, f"Yvaine_{number}{SUFFIXES[number % 5]}")
        if number % 4 == 3:
            path.write_bytes(path.read_bytes()[132:])
    folder = root / "DICOM/QUIXADOTTER_0"
    report(folder, "Yvaine_SR", BasicTextSRStorage, "SR")
    radiograph(folder, "Yvaine_CT", Modality="CT", SOPClassUID=CTImageStorage)
    radiograph(folder, "Yvaine_HAND", BodyPartExamined="HAND")
    whole = radiograph(folder, "Yvaine_cut.dcm", PatientID="MRN-0").read_bytes()
    (folder / "Yvaine_cut.dcm").write_bytes(whole[:-900])
    (folder / "Yvaine_broken.dcm").write_bytes(b"<html>Yvaine</html>")
    report(root, "DICOMDIR", MediaStorageDirectoryStorage, "", media=True)
    (root / "README.TXT").write_text("Quixadotter")
    return root


LEFT_OUT = {
    ".txt file": 1,
    "DICOM of another body part (HAND)": 1,
    "DICOM that is no X-ray image (CT Image Storage)": 1,
    "DICOM without an image (Basic Text SR Storage)": 1,
    "DICOMDIR, the list of a medium's files": 1,
}


def test_every_stage_on_a_medium(tmp_path, capfd, monkeypatch):
    root, out = write_medium(tmp_path / "cd"), tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    pool, own, mae, run = out / "pool/manifest.csv", out / "own/manifest.csv", out / "mae", out / "ft"

    def clinvit(*arguments) -> None:
        assert main([str(each) for each in arguments]) == 0, capfd.readouterr().err

    clinvit("prepare", "thorax", root, "--out", pool)
    table = pd.read_csv(pool, dtype=str)
    assert len(table) == 2 * PATIENTS + 1 and table["patient"].nunique() == PATIENTS
    assert table["view"].value_counts().to_dict() == {"PA": 2 * PATIENTS + 1 - 5, "LL": 5}
    stored = json.loads(pool.with_suffix(".json").read_text())["left_out"]
    assert stored == LEFT_OUT | {"damaged DICOM file": 1}
    files = [file for file in root.rglob("*") if file.is_file()]
    assert len(table) + sum(stored.values()) == len(files)
    assert main(["check", "thorax", str(pool)]) == 2, "the file that is cut off is found"
    assert "Yvaine_cut.dcm: " in capfd.readouterr().out
    assert main(["check", "thorax", str(root), "--option", "views=PA,AP"]) == 2

    tiny = [*TINY, "--run.precision", "32-true", "--optim.epochs", 2, "--run.max_bad", 0.2]
    clinvit("pretrain", "thorax", "--recipe", "tiny", "--data", pool, "--out", mae, *tiny)

    listed = table[~table["path"].str.contains("cut")].reset_index(drop=True)
    rows = pd.DataFrame({"path": listed["path"].str.replace("../../cd/", ""), "patient": listed["patient"]})
    number = rows["path"].str.extract(r"QUIXADOTTER_(\d+)")[0].astype(int)
    rows["split"] = [("train", "train", "val", "test")[each % 4] for each in number]
    rows["Nodule"] = [each // 4 % 2 for each in number]
    rows.to_csv(root / "own.csv", index=False)
    clinvit("prepare", "thorax", root / "own.csv", "--out", own)
    start = ["--encoder", mae / "encoder", "--data", own]
    clinvit("finetune", "thorax", "--recipe", "tiny", *start, "--out", run, *tiny)
    (root / "own.csv").unlink()
    capfd.readouterr()
    clinvit("predict", "thorax", root, "--model", run / "model", "--out", out / "new.csv")
    said = capfd.readouterr()
    assert "30 requested = 28 ok + 2 failed" in said.out and "left out 5 files" in said.out
    new = pd.read_csv(out / "new.csv", dtype=str, keep_default_na=False)
    assert len(new) == 2 * PATIENTS + 2 and (new["status"] == "failed").sum() == 2
    assert json.loads((out / "new.model.json").read_text())["left_out"] == LEFT_OUT
    assert new["patient"].nunique() == PATIENTS + 1, "of the broken file nobody knows the patient"
    same = load(run / "model").predict(root)
    assert same.attrs["left_out"] == LEFT_OUT and len(same) == len(new)
    assert same["patient"].nunique() == PATIENTS + 1
    clinvit("predict", "thorax", own, "--model", run / "model", "--out", out / "p/p.csv")
    clinvit("evaluate", out / "p/p.csv", "--data", own, "--out", out / "report", "--resamples", 20)

    _, found = search(out, NAMES)
    named = {name for name in found if name.rpartition("/")[2] not in ("manifest.csv", "new.key.json")}
    assert not named, "names of files stand in manifests and the key only"
    later = capfd.readouterr()
    assert not any(name in said.out + said.err + later.out + later.err for name in NAMES.values())
