import shutil
import zlib

import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.inventory import class_codes_in_names, files_below
from clinvit.datasets.manifest.layouts import own_layouts
from clinvit.datasets.manifest.own import read_class_folders, read_own_csv
from clinvit.datasets.manifest.tables import read_manifest, write_manifest
from clinvit.datasets.manifest.unlabelled import read_unlabelled
from clinvit.stages.prepare import prepare_stage
from clinvit.tests.datasets.images.test_dicom import dicom, saved
from pydicom.uid import DeflatedExplicitVRLittleEndian


def touch(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"x")


def own_csv(root, header="path,patient,effusion,age", rows=None, files=True):
    rows = rows or [f"a/{i}.dcm,p{i // 2},{i % 2},{40 + i}" for i in range(24)]
    (root / "mine.csv").write_text("\n".join([header, *rows]) + "\n")
    if files:
        touch(root, *(row.split(",")[0].replace("\\", "/") for row in rows))
    return root / "mine.csv"


def no_patient_twice(table):
    return table.groupby("patient")["split"].nunique().eq(1).all()


def test_a_csv_becomes_a_manifest(tmp_path):
    table, labels = read_own_csv(own_csv(tmp_path))
    assert labels == ("effusion",) and list(table.columns) == [
        "id",
        "path",
        "patient",
        "split",
        "effusion",
        "age",
    ]
    assert set(table["split"]) == {"train", "val", "test"} and no_patient_twice(table)
    assert any("dealt out" in sentence for sentence in table.attrs["notes"])
    write_manifest(tmp_path / "manifest.csv", table, labels)
    manifest = read_manifest(tmp_path / "manifest.csv")
    assert manifest.labels == labels and all(path.is_file() for path in manifest.files())


def test_the_folder_of_one_csv_will_do(tmp_path):
    own_csv(tmp_path)
    assert len(read_own_csv(tmp_path)[0]) == 24
    (tmp_path / "second.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="found 2"):
        read_own_csv(tmp_path)


def test_columns_are_named_and_backslashes_and_split_words_understood(tmp_path):
    rows = [f"a\\{i}.png,n{i},s{i},{'training' if i < 20 else 'Validation'},1.0," for i in range(24)]
    path = own_csv(tmp_path, "file,name,subject,part,mass,note", rows)
    table, labels = read_own_csv(
        path,
        path_column="file",
        id_column="name",
        patient_column="subject",
        split_column="part",
        labels=["mass"],
    )
    assert table["path"][0] == "a/0.png" and table["id"][0] == "n0" and labels == ("mass",)
    assert table["split"].value_counts().to_dict() == {"train": 20, "val": 4}


def test_empty_label_cells_are_unknown_and_other_numbers_refused(tmp_path):
    rows = [f"{i}.png,p{i},{cell}" for i, cell in enumerate(["1", "0", "", "nan", "1"])]
    table, _ = read_own_csv(own_csv(tmp_path, "path,patient,mass", rows))
    assert table["mass"].isna().tolist() == [False, False, True, True, False]
    rows[3] = "3.png,p3,3"
    with pytest.raises(DataError, match="row 5: mass is '3'"):
        read_own_csv(own_csv(tmp_path, "path,patient,mass", rows), labels=["mass"])


def test_train_without_val_gives_some_patients_to_val(tmp_path):
    rows = [f"{i}.png,p{i // 2},{'train' if i < 40 else 'test'},{i % 3 == 0:d}" for i in range(50)]
    table, _ = read_own_csv(own_csv(tmp_path, "path,patient,split,mass", rows))
    counts = table["split"].value_counts()
    assert counts["test"] == 10 and 2 <= counts["val"] <= 10 and no_patient_twice(table)


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        ("mass,patient,where", ["1,p,a.png"], {}, "no column 'path'"),
        ("mass,who,where", ["1,p,a.png"], {}, "no column 'path'.* and 'patient'"),
        ("path,patient,mass,mass", ["a.png,p,1,0"], {"labels": ["mass"]}, "'mass' stands twice"),
        ("path,patients,mass", ["a.png,p,1"], {}, "did you mean 'patients'"),
        ("path,patient,mass", ["a.png,p,1"], {"labels": ["mas"]}, "did you mean 'mass'"),
        ("path,patient,mass", ["a.png,,1"], {}, "row 2: the patient is empty"),
        ("path,patient,mass", ["a.png,p,1", "a.png,q,1"], {}, "'a' stands twice"),
        (
            "path,patient,split,mass",
            ["a.png,p,train,1", "b.png,p,test,0"],
            {},
            "patient 'p' is in test and train",
        ),
        ("path,patient,split,mass", ["a.png,p,trian,1"], {}, "did you mean 'train'"),
        ("path,patient,split,mass", ["a.png,p,train,1", "b.png,q,,1"], {}, "1 of 2 cases have no split"),
        ("path,patient,word", ["a.png,p,ill"], {}, "no label column"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, header, rows, options, message):
    with pytest.raises(DataError, match=message) as caught:
        read_own_csv(own_csv(tmp_path, header, rows), **options)
    assert "mine.csv" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["PatNr", "Pat-Nr.", "pat_nr", "PatientID", "PATIENT NUMBER", "patientenId", "SubjectId"]
)
def test_a_column_of_patients_is_known_however_its_words_are_joined(tmp_path, name):
    table, labels = read_own_csv(own_csv(tmp_path, f"Bild,{name},mass", ["a.png,p,1", "b.png,q,0", "c.png,q,0"]))
    assert table["patient"].tolist() == ["p", "q", "q"] and labels == ("mass",)


def test_what_could_be_the_patients_stands_in_the_finished_command(tmp_path):
    rows = [f"{i}.png,K{i // 2},{i % 3},{i % 2}" for i in range(12)]
    with pytest.raises(DataError, match="'Kennung' is a guess: 6 values in 12 rows") as caught:
        read_own_csv(own_csv(tmp_path, "Bild,Kennung,Raum,mass", rows))
    assert "--option patient_column=Kennung" in str(caught.value)
    with pytest.raises(DataError, match="patient_column=NAME"):
        read_own_csv(own_csv(tmp_path, "Bild,mass", ["a.png,1", "b.png,0"]))


def test_each_file_its_own_patient_must_be_said(tmp_path):
    path = own_csv(tmp_path, "path,mass", [f"{i}.png,{i % 2}" for i in range(9)])
    table, _ = read_own_csv(path, each_file_own_patient=True)
    assert table["patient"].is_unique


def test_resplit_ignores_a_leaking_split(tmp_path):
    rows = [f"{i}.png,p{i // 2},{('train', 'test')[i % 2]},{i % 2}" for i in range(20)]
    table, _ = read_own_csv(own_csv(tmp_path, "path,patient,split,mass", rows), resplit=True)
    assert no_patient_twice(table)


def test_missing_files_are_counted_or_refused(tmp_path):
    path = own_csv(tmp_path)
    for i in range(5):
        (tmp_path / f"a/{i}.dcm").unlink()
    table, _ = read_own_csv(path)
    assert len(table) == 19 and any("5 listed files are not there" in note for note in table.attrs["notes"])
    assert len(read_own_csv(path, keep_missing=True)[0]) == 24
    for i in range(5, 15):
        (tmp_path / f"a/{i}.dcm").unlink()
    with pytest.raises(DataError, match=r"15 of 24 listed files are not there, first a/0\.dcm"):
        read_own_csv(path)


def test_two_class_folders_are_one_label(tmp_path):
    touch(
        tmp_path,
        *(f"{name}/{i}.jpeg" for name in ("NORMAL", "PNEUMONIA") for i in range(8)),
        "NORMAL/notes.txt",
    )
    table, labels = read_class_folders(tmp_path, each_file_own_patient=True)
    assert labels == ("PNEUMONIA",) and len(table) == 16 and table["PNEUMONIA"].sum() == 8
    assert table.attrs["meaning"] == {"PNEUMONIA": "1 = in folder PNEUMONIA, 0 = in folder NORMAL"}
    assert table["id"].is_unique
    assert read_class_folders(tmp_path, each_file_own_patient=True, positive="NORMAL")[1] == ("NORMAL",)


def test_two_classes_without_a_normal_one_are_said(tmp_path):
    touch(tmp_path, *(f"{name}/{i}.png" for name in ("ct", "mr") for i in range(6)))
    table, labels = read_class_folders(tmp_path, each_file_own_patient=True)
    assert labels == ("mr",) and any("taken as 1" in sentence for sentence in table.attrs["notes"])


def test_three_classes_are_exclusive(tmp_path):
    touch(tmp_path, *(f"{name}/{i}.png" for name in ("a", "b", "c") for i in range(6)))
    table, labels = read_class_folders(tmp_path, each_file_own_patient=True)
    assert labels == ("a", "b", "c") and table.attrs["exclusive"]
    assert (table[list(labels)].sum(axis=1) == 1).all()


def test_split_folders_and_patients_by_pattern(tmp_path):
    files = [
        f"{split}/{name}/person{number}_{i}.png"
        for number, (split, name) in enumerate((s, n) for s in ("train", "valid", "test") for n in ("ill", "healthy"))
        for i in range(3)
    ]
    touch(tmp_path, *files)
    table, labels = read_class_folders(tmp_path, patient_pattern=r"(person\d+)_")
    assert labels == ("ill",) and set(table["split"]) == {"train", "val", "test"}
    assert table["patient"].nunique() == 6 and no_patient_twice(table)
    touch(tmp_path, "test/ill/person0_9.png")
    with pytest.raises(DataError, match="'person0' is in test and train"):
        read_class_folders(tmp_path, patient_pattern=r"(person\d+)_")


def test_folders_below_a_class_may_be_patients(tmp_path):
    touch(
        tmp_path,
        *(f"{name}/{name}{p}/{i}.dcm" for name in ("ill", "normal") for p in range(5) for i in range(2)),
    )
    table, _ = read_class_folders(tmp_path, patient_pattern=r"^([^/]+)/")
    assert table["patient"].nunique() == 10


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (["a/1.png", "b/1.png"], {}, "who is the patient"),
        (["a/1.png", "b/1.png"], {"patient_pattern": "(x)", "each_file_own_patient": True}, "one of the two"),
        (["a/1.png", "b/1.png"], {"patient_pattern": "(x"}, "no regular expression"),
        (["a/1.png", "b/1.png"], {"patient_pattern": r"p(\d)"}, "finds no patient in '1.png'"),
        (["a/1.png", "b/1.png"], {"each_file_own_patient": True, "positive": "aa"}, "no class 'aa'"),
        (["a/1.png"], {"each_file_own_patient": True}, "1 class folders"),
        (["1.png"], {"each_file_own_patient": True}, "0 class folders"),
        (["readme.txt"], {"each_file_own_patient": True}, "0 class folders"),
    ],
)
def test_wrong_folders_are_named(tmp_path, files, options, message):
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        read_class_folders(tmp_path, **options)


def test_a_walk_skips_hidden_files(tmp_path):
    touch(tmp_path, "b/2.PNG", "a/.hidden.png", ".cache/3.png", "1.png", "a/b/c/4.png")
    assert files_below(tmp_path, (".png",)) == ["1.png", "a/b/c/4.png", "b/2.PNG"]


def test_a_folder_without_labels(tmp_path, shared_data, monkeypatch):
    for path in (shared_data / "cxr_formats").glob("*.dcm"):
        shutil.copy(path, tmp_path / path.name)
    table, labels = read_unlabelled(tmp_path)
    assert table.equals(read_unlabelled(tmp_path)[0])
    monkeypatch.setenv("CLINVIT_KEY", "another key than before")
    again, _ = read_unlabelled(tmp_path)
    assert labels == () and len(table) == 2 and set(table["split"]) == {"train"}
    assert table["patient"].str.fullmatch("[0-9a-f]{16}").all() and (table["patient"] != again["patient"]).all()


def test_a_folder_without_labels_asks_for_patients(tmp_path):
    (tmp_path / "p1").mkdir()
    for name in ("p1/a.png", "p1/b.png", "p2.png"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match="who is the patient of p1/a"):
        read_unlabelled(tmp_path)
    table, _ = read_unlabelled(tmp_path, patient_pattern=r"^(p\d)")
    assert sorted(table["patient"]) == ["p1", "p1", "p2"]
    assert sorted(read_unlabelled(tmp_path, each_file_own_patient=True)[0]["patient"]) == [
        "p1/a",
        "p1/b",
        "p2",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file to read below"):
        read_unlabelled(tmp_path / "empty")


def test_a_folder_of_damaged_dicom_files_says_what_is_wrong_with_the_first(tmp_path):
    """Also of one that inflates without end: 2 GB of a header of nothing but one element."""
    meta = dicom(np.zeros((8, 8), np.uint8), 8, DeflatedExplicitVRLittleEndian)
    whole = saved(meta, tmp_path).read_bytes()
    start = whole[: 132 + 12 + int.from_bytes(whole[140:144], "little")]
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = deflate.compress(b"\x08\x00\x00\x00OB\x00\x00" + (2**31).to_bytes(4, "little"))
    bomb += deflate.compress(bytes(2**26)) + deflate.flush()
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(start + bomb)
    with pytest.raises(DataError, match=r"1 x damaged DICOM file. The first: .*a.dcm: .* inflates to more than"):
        read_unlabelled(folder)
    (folder / "a.dcm").write_bytes(whole[:200])
    with pytest.raises(DataError, match=r"1 x damaged DICOM file. The first: .*a.dcm: .* Fetch it again"):
        read_unlabelled(folder)


def test_a_column_of_classes_becomes_labels(tmp_path):
    rows = [f"{i}.mp4,p{i},{name},{i % 2}" for i, name in enumerate(["regular", "covid ", "viral", ""] * 4)]
    path = own_csv(tmp_path, "path,patient,what,odd", rows)
    table, labels = read_own_csv(path, class_column="what")
    assert labels == ("covid", "regular", "viral") and table.attrs["exclusive"] and "odd" not in table.columns
    np.testing.assert_array_equal(table.loc[1, list(labels)].astype(float), [1, 0, 0])
    assert table.loc[3, list(labels)].isna().all()
    assert table.attrs["meaning"]["covid"] == "1 = what is covid; exactly one class is 1"


def test_a_column_of_two_classes_becomes_one_label(tmp_path):
    rows = [f"{i}.mp4,p{i},{('ill', 'Healthy')[i % 2]}" for i in range(8)]
    path = own_csv(tmp_path, "path,patient,state", rows)
    table, labels = read_own_csv(path, class_column="state")
    assert labels == ("ill",) and table["ill"].tolist() == [1, 0] * 4 and "exclusive" not in table.attrs
    assert table.attrs["meaning"] == {"ill": "1 = state is ill, 0 = state is Healthy"}
    assert read_own_csv(path, class_column="state", positive="Healthy")[1] == ("Healthy",)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("ab", {"class_column": "clas"}, "no column 'clas'.*did you mean 'class'"),
        ("ab", {"class_column": "class", "labels": ["class"]}, "not both"),
        ("ab", {"class_column": "class", "positive": "c"}, "no class 'c'"),
        ("abc", {"class_column": "class", "positive": "a"}, "for two classes; there are 3"),
        ("aa", {"class_column": "class"}, r"1 classes \(a\)"),
        (["ill", "Sex"], {"class_column": "class"}, "a class is named 'Sex'"),
        ("ab", {"positive": "a"}, "name their column too"),
    ],
)
def test_wrong_classes_are_named(tmp_path, names, options, message):
    path = own_csv(tmp_path, "path,patient,class", [f"{i}.mp4,p{i},{name}" for i, name in enumerate([*names] * 3)])
    with pytest.raises(DataError, match=message):
        read_own_csv(path, **options)


def test_absolute_paths_become_relative(tmp_path):
    touch(tmp_path, *(f"data/{i}.png" for i in range(6)))
    (tmp_path / "tables").mkdir()
    rows = [f"{tmp_path}/data/{i}.png,p{i},{i % 2}" for i in range(6)]
    table, _ = read_own_csv(own_csv(tmp_path / "tables", "path,patient,mass", rows, files=False))
    assert table["path"][0] == "../data/0.png" and len(table) == 6


def test_one_label_may_be_named_without_a_list(tmp_path):
    assert read_own_csv(own_csv(tmp_path), labels="effusion")[1] == ("effusion",)


def test_folders_of_other_kinds_of_files(tmp_path):
    touch(tmp_path, *(f"{name}/{i}.{end}" for name in ("ill", "normal") for i in range(6) for end in ("mp4", "png")))
    table, _ = read_class_folders(tmp_path, unit="clip", each_file_own_patient=True)
    assert len(table) == 12 and table["path"].str.endswith(".mp4").all()
    table, _ = read_unlabelled(tmp_path, unit="clip", each_file_own_patient=True)
    assert len(table) == 12 and table["path"].str.endswith(".mp4").all()


CODED = {
    "a code per class": ["ab{i}_{c}7.mp4", True],
    "the name of the class": ["x/{c}_{i}.mp4", True],
    "at the end, behind names of varying length": ["{long}_{c}.mp4", True],
    "running numbers": ["{i:04d}.mp4", False],
    "the class only in the folder": ["{c}/{i}.mp4", False],
    "a part that occurs in both": ["{odd}_{i}.mp4", False],
}


@pytest.mark.parametrize(("name", "expected"), CODED.values(), ids=CODED)
def test_codes_of_classes_in_names(name, expected):
    classes = ["ill" if i % 3 else "well" for i in range(60)]
    paths = [name.format(i=i, c=c, odd=i % 2, long="_".join("x" * (1 + i % 4))) for i, c in enumerate(classes)]
    assert (class_codes_in_names(paths, classes) is not None) is expected
    assert class_codes_in_names(paths, ["ill"] * 60) is None


def test_a_code_that_may_be_chance_is_none():
    assert class_codes_in_names(["a_1.png", "a_2.png", "b_3.png", "b_4.png"], ["x", "x", "y", "y"]) is None
    assert class_codes_in_names([], []) is None


def test_names_dealt_out_without_the_class_do_not_tell_it():
    rng = np.random.default_rng(0)
    paths = [f"{'abc'[i % 3]}{i % 20}-{i:03d}.mp4" for i in range(60)]
    told = [class_codes_in_names(paths, rng.permutation(["x"] * 40 + ["y"] * 20)) for _ in range(50)]
    assert told == [None] * 50


def test_a_leak_in_names_is_warned_of(tmp_path):
    touch(tmp_path, *(f"{name}/{name[:2]}{i}.png" for name in ("NORMAL", "PNEUMONIA") for i in range(12)))
    table, _ = read_class_folders(tmp_path, each_file_own_patient=True)
    assert "none of the 2 values of their part 1 (no, pn)" in table.attrs["warnings"][0]


def test_numbers_of_patients_in_names_are_no_leak(tmp_path):
    files = [f"{'ill' if p % 2 else 'normal'}/pat{p}_{i}.png" for p in range(9) for i in range(6)]
    touch(tmp_path, *files)
    table, _ = read_class_folders(tmp_path, patient_pattern=r"(pat\d+)_")
    assert "warnings" not in table.attrs
    told, _ = read_class_folders(tmp_path, each_file_own_patient=True)
    assert "part 2" in told.attrs["warnings"][0]


@pytest.mark.parametrize("deep", [False, True])
def test_files_apart_from_their_table_are_looked_for_in_the_data_roots(tmp_path, deep):
    for place in ("one", "two"):
        (tmp_path / place / ("a/b" if deep else "")).mkdir(parents=True)
    for number in range(12):
        folder = tmp_path / ("one", "two")[number % 2] / ("a/b" if deep else "")
        (folder / f"IMG{number}.png").write_bytes(b"x")
    (tmp_path / "tables").mkdir()
    rows = [f"img{number},p{number},{number % 2}" for number in range(12)]
    (tmp_path / "tables" / "labels.csv").write_text("\n".join(["image,patient,mass", *rows]) + "\n")
    layouts = own_layouts("image")
    found = prepare_stage(
        layouts, tmp_path / "tables/labels.csv", tmp_path / "out/manifest.csv",
        data_roots=[tmp_path / "one", tmp_path / "two"],
    )  # fmt: skip
    assert len(found.manifest) == 12 and all(file.is_file() for file in found.manifest.files())
    with pytest.raises(DataError, match="--data-root"):
        prepare_stage(layouts, tmp_path / "tables/labels.csv", tmp_path / "out/manifest.csv")
