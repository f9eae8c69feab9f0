from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest import layouts
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.phantoms.ocular import write_erdes
from clinvit.stages.prepare import prepare_stage
from clinvit.stages.reproduce import run as reproduce
from clinvit.stages.reproduce import verdict
from clinvit.stages.reproduce.metrics import Measured, ids_fingerprint
from clinvit.stages.reproduce.table import TestList
from clinvit.tasks import load
from clinvit.tasks.erdes.labels import DIAGNOSES, LABELS, MEANING, label_columns
from clinvit.tasks.erdes.layouts import LAYOUTS
from clinvit.tasks.erdes.layouts.leaks import counts, leaks
from clinvit.tasks.erdes.layouts.official import read_lists
from clinvit.tasks.erdes.tables import TABLES

recognise, to_manifest = (partial(function, LAYOUTS) for function in (layouts.recognise, layouts.to_manifest))

FOLDERS = {
    "Non_Retinal_Detachment/Normal/164267": (40, "normal", ""),
    "Non_Retinal_Detachment/Posterior_Vitreous_Detachment/825315": (20, "pvd", ""),
    "Retinal_Detachment/Macula_Detached/Bilateral/755384": (10, "macula_detached", "Bilateral"),
    "Retinal_Detachment/Macula_Detached/TD/405744": (10, "macula_detached", "TD"),
    "Retinal_Detachment/Macula_Intact/ND/258033": (10, "macula_intact", "ND"),
    "Retinal_Detachment/Macula_Intact/TD/102769": (10, "macula_intact", "TD"),
}
CLIPS = [f"{folder}_{i:05d}.mp4" for folder, (count, _, _) in FOLDERS.items() for i in range(1, count + 1)]


def touch(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")


def tree(root, *, skip=()):
    touch(root, *(clip for clip in CLIPS if not clip.startswith(tuple(skip))))
    return root


def metadata(path, clips=tuple(CLIPS), **changes):
    rows = [
        {
            "clip_id": clip.rpartition("/")[2][:-4],
            "file_path": f"clips/{clip}",
            "subtype": FOLDERS[clip[:-10]][1],
            "fps": 30.0,
            "frame_count": 90,
        }
        for clip in clips
    ]
    pd.DataFrame(rows).assign(**changes).to_csv(path, index=False)


def official_lists(root, *, style="{}", tasks=LABELS, clips=tuple(CLIPS)):
    """Lists of which every tenth clip is test, shifted by one clip from task to task, as if split independently."""
    diagnoses = pd.Series([FOLDERS[clip[:-10]][1] for clip in clips])
    values = label_columns(diagnoses)
    for shift, task in enumerate(tasks):
        part = values[task].dropna()
        rows = pd.DataFrame({"path": [style.format(clips[i]) for i in part.index], "label": part.astype(int)})
        place = (np.arange(len(rows)) + shift) % 10
        (root / task).mkdir(parents=True)
        for split, chosen in (("test", place == 0), ("val", place == 5), ("train", ~np.isin(place, (0, 5)))):
            rows[chosen].to_csv(root / task / f"{split}.csv", index=False)
    return root


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


# Labels


def test_what_one_means_is_as_in_the_official_tasks():
    values = label_columns(pd.Series(DIAGNOSES, index=DIAGNOSES))
    expected = {  # normal, pvd, macula detached, macula intact
        "normal_vs_rd": [0, np.nan, 1, 1],
        "non_rd_vs_rd": [0, 0, 1, 1],
        "pvd_vs_rd": [np.nan, 0, 1, 1],
        "macula_detached_vs_intact": [np.nan, np.nan, 0, 1],
        "normal_vs_pvd": [0, 1, np.nan, np.nan],
    }
    pd.testing.assert_frame_equal(values, pd.DataFrame(expected, index=DIAGNOSES), check_dtype=False)
    assert tuple(MEANING) == LABELS == tuple(expected)
    assert MEANING["macula_detached_vs_intact"].startswith("1 = macula INTACT")


# The tree


@pytest.mark.parametrize("below", ["", "clips", "erdes", "erdes/clips"])
def test_the_tree_is_found_and_read(tmp_path, below):
    tree(tmp_path / below)
    assert recognise(tmp_path) == "erdes"
    table, labels = to_manifest(tmp_path)
    assert labels == LABELS and len(table) == len(CLIPS) and table["id"].is_unique
    assert (table["patient"] == table["id"]).all() and all((tmp_path / path).is_file() for path in table["path"])
    row = table.set_index("id").loc["Retinal_Detachment/Macula_Intact/TD/102769_00003"]
    assert row["diagnosis"] == "macula_intact" and row["side"] == "TD"
    assert row["macula_detached_vs_intact"] == 1 and np.isnan(row["normal_vs_pvd"])
    assert set(table.loc[table["diagnosis"].isin(["normal", "pvd"]), "side"]) == {""}
    assert any("no patients or eyes" in sentence for sentence in table.attrs["warnings"])
    assert any("give the class away" in sentence for sentence in table.attrs["warnings"])


def test_one_split_for_all_tasks_is_even_in_every_folder(tmp_path):
    table, _ = to_manifest(tree(tmp_path), seed=3)
    shares = pd.crosstab(table["diagnosis"] + table["side"], table["split"], normalize="index")
    assert ((shares - pd.Series({"train": 0.7, "val": 0.1, "test": 0.2})).abs() <= 0.05 + 1e-9).all(axis=None)
    pd.testing.assert_frame_equal(table, to_manifest(tmp_path, seed=3)[0])
    assert (table["split"] != to_manifest(tmp_path, seed=4)[0]["split"]).any()


def test_the_manifest_reads_back_with_the_same_labels(tmp_path):
    tree(tmp_path / "data")
    metadata(tmp_path / "data/metadata.csv")
    prepare_stage(LAYOUTS, tmp_path / "data", tmp_path / "out/manifest.csv")
    manifest = read_manifest(tmp_path / "out/manifest.csv")
    assert manifest.labels == LABELS
    assert all(file.is_file() for file in manifest.files())
    assert manifest.meaning == MEANING and set(manifest.table["fps"]) == {"30.0"}


def test_phantoms_are_read_as_the_real_set(tmp_path):
    root = write_erdes(tmp_path, clips=12, size_px=64, seconds=(0.2, 0.3))
    table, labels = to_manifest(root)
    assert recognise(root) == "erdes" and labels == LABELS and len(table) == 12
    assert table[["fps", "frames"]].gt(0).all(axis=None) and not any("metadata" in n for n in table.attrs["notes"])


def test_metadata_beside_clips_is_matched_by_path(tmp_path):
    tree(tmp_path / "clips")
    metadata(tmp_path / "metadata.csv", CLIPS[:-1])
    edit(tmp_path / "metadata.csv", "164267_00002,clips/Non_Ret", "164267_00002,clips\\Non_Ret")
    edit(tmp_path / "metadata.csv", "00003.mp4,normal", "00003.mp4,pvd")
    table, _ = to_manifest(tmp_path)
    assert table["fps"].notna().sum() == len(CLIPS) - 1 and set(table["frames"].dropna()) == {90}
    assert any(f"1 clips are not in metadata.csv; the first is {CLIPS[-1][:-4]}" in n for n in table.attrs["notes"])
    assert any("1 clips have another class in metadata.csv" in w for w in table.attrs["warnings"])
    assert table.set_index("path").loc[f"clips/{CLIPS[2]}", "diagnosis"] == "normal"


def test_metadata_of_another_kind_is_only_noted(tmp_path):
    tree(tmp_path)
    (tmp_path / "metadata.csv").write_text("a,b\n1,2\n")
    assert any("no column file_path" in note for note in to_manifest(tmp_path)[0].attrs["notes"])


def test_a_part_of_the_download_has_the_labels_it_can_have(tmp_path):
    table, labels = to_manifest(tree(tmp_path / "rd", skip=["Non"]))
    assert labels == ("macula_detached_vs_intact",) == tuple(table.attrs["meaning"])
    assert not set(LABELS[:3]) & set(table.columns)
    assert any("left out: normal_vs_rd" in note for note in table.attrs["notes"])
    with pytest.raises(DataError, match="all clips are pvd"):
        to_manifest(tree(tmp_path / "pvd", skip=["Retinal", "Non_Retinal_Detachment/Normal"]))


def test_the_older_copy(tmp_path):
    folders = {"Non_RD": "normal", "PVD": "pvd", "Macula_Intact": "macula_intact", "Macula_Detached": "macula_detached"}
    touch(tmp_path, *(f"train/{folder}/{i}.mp4" for folder in folders for i in range(10)))
    (tmp_path / "train.csv").write_text("file,label\ntrain/PVD/1.mp4,3\n")
    assert recognise(tmp_path) == "erdes"
    table, labels = to_manifest(tmp_path)
    assert labels == LABELS and table["diagnosis"].value_counts().to_dict() == dict.fromkeys(DIAGNOSES, 10)
    assert (table["path"].str.split("/").str[1].map(folders) == table["diagnosis"]).all() and set(table["side"]) == {""}
    assert any("older copy" in note for note in table.attrs["notes"])
    touch(tmp_path / "own", "train/PVD/1.mp4", "train/Normal/1.mp4", "val/PVD/2.mp4")
    assert recognise(tmp_path / "own") == "folders"


def test_other_files_and_a_second_copy_are_noticed(tmp_path):
    tree(tmp_path)
    touch(tmp_path, "extra/1.mp4", "Retinal_Detachment/loose.mp4", "Non_Retinal_Detachment/Normal/notes.txt")
    table, _ = to_manifest(tmp_path)
    assert len(table) == len(CLIPS) and any("2 clips outside" in note for note in table.attrs["notes"])
    tree(tmp_path / "copy")
    with pytest.raises(DataError, match="more than once"):
        to_manifest(tmp_path)


# The official lists


@pytest.mark.parametrize("style", ["{}", "clips/{}", "D:/data/erdes/clips/{}"])
@pytest.mark.parametrize("windows", [False, True])
def test_the_split_of_one_official_task(tmp_path, style, windows):
    tree(tmp_path / "clips")
    lists = official_lists(tmp_path / "splits", style=style)
    if windows:
        for file in lists.glob("*/*.csv"):
            file.write_text(file.read_text().replace("/", "\\"))
    (tmp_path / "clips" / CLIPS[-1]).unlink()
    table, labels = to_manifest(tmp_path, "erdes", splits=lists, official_task="macula_detached_vs_intact")
    assert labels == ("macula_detached_vs_intact",) and len(table) == 39
    assert not (set(LABELS) - set(labels)) & set(table.columns)
    assert all((tmp_path / path).is_file() for path in table["path"])
    assert table["split"].value_counts().to_dict() == {"train": 31, "val": 4, "test": 4}
    assert any("60 clips are not in the lists of macula" in note for note in table.attrs["notes"])
    assert any("1 listed files are not there" in note for note in table.attrs["notes"])
    assert any("the tasks were split independently" in warning for warning in table.attrs["warnings"])
    kept = to_manifest(tmp_path, "erdes", splits=lists, official_task=labels[0], keep_missing=True)[0]
    assert len(kept) == 40


@pytest.mark.parametrize("where", ["splits", "repository/data/splits", "clips/lists"])
def test_lists_in_the_data_set_are_found_by_their_content(tmp_path, where):
    tree(tmp_path / "clips")
    lists = official_lists(tmp_path / where)
    found, labels = to_manifest(tmp_path, official_task="pvd_vs_rd")
    named, _ = to_manifest(tmp_path, splits=lists, official_task="pvd_vs_rd")
    pd.testing.assert_frame_equal(found, named)
    assert labels == ("pvd_vs_rd",) and any(f"those of the lists in {lists}" in note for note in found.attrs["notes"])
    own, labels = to_manifest(tmp_path)
    assert labels == LABELS and any(f"official lists lie in {lists}; official_task=" in n for n in own.attrs["notes"])
    with pytest.raises(DataError, match=r"lie in .* and in .*\. Name one of them"):
        to_manifest(official_lists(tmp_path / "again").parent, official_task="pvd_vs_rd")


def test_without_lists_an_own_split_is_allowed_with_a_warning(tmp_path):
    table, labels = to_manifest(tree(tmp_path), official_task="pvd_vs_rd", own_split=True)
    assert labels == LABELS and set(table["split"]) == {"train", "val", "test"}
    assert any("another test list than the paper's" in warning for warning in table.attrs["warnings"])


def test_half_a_wish_for_official_splits_is_refused(tmp_path):
    tree(tmp_path / "data")
    lists = official_lists(tmp_path / "lists")
    with pytest.raises(DataError, match="another split in every official task"):
        to_manifest(tmp_path / "data", splits=lists)
    with pytest.raises(DataError, match="needs the folder of the official lists"):
        to_manifest(tmp_path / "data", official_task="normal_vs_rd")
    with pytest.raises(DataError, match="did you mean 'normal_vs_rd'"):
        to_manifest(tmp_path / "data", splits=lists, official_task="normal_vs_r")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label", "labels", "no column 'label'.*did you mean 'labels'"),
        ("mp4,0", "mp4,1", r"train\.csv: row 2: label '1', but Non_.* is normal: in non_rd_vs_rd it should be 0"),
        ("Non_Retinal_Detachment/", "", "row 2: 'Normal/164267_00001.mp4' is no path like"),
        ("mp4,0\n", "mp4,0\nNon_Retinal_Detachment/Normal/164267_00002.mp4,0\n", "stands twice"),
        (
            "mp4,0\n",
            "mp4,0\nNon_Retinal_Detachment/Normal/164267_00010.mp4,0\n",
            "Normal/164267_00010' is in test and train",
        ),
    ],
)
def test_wrong_lists_are_named(tmp_path, old, new, message):
    lists = official_lists(tmp_path)
    edit(lists / "non_rd_vs_rd/train.csv", old, new)
    with pytest.raises(DataError, match=message):
        to_manifest(lists)


def test_a_clip_outside_the_task_has_no_place_in_its_list(tmp_path):
    lists = official_lists(tmp_path)
    edit(lists / "normal_vs_rd/val.csv", CLIPS[5], CLIPS[45])
    with pytest.raises(DataError, match="is pvd: in normal_vs_rd it should be left out"):
        to_manifest(lists)


def test_a_missing_list_is_named(tmp_path):
    (official_lists(tmp_path) / "pvd_vs_rd/val.csv").unlink()
    with pytest.raises(DataError, match=r"pvd_vs_rd/val\.csv: no such file"):
        to_manifest(tmp_path)


def test_lists_alone_give_a_table(tmp_path):
    lists = official_lists(tmp_path)
    assert recognise(lists) == "erdes_lists"
    table, labels = to_manifest(lists)
    assert labels == ("non_rd_vs_rd",) and len(table) == len(CLIPS) and table.attrs["lists_only"]
    assert len(to_manifest(lists, official_task="normal_vs_pvd")[0]) == 60


def test_leaks_are_counted_as_by_hand():
    def task(*rows):
        return pd.DataFrame(rows, columns=["id", "split"]).assign(diagnosis="normal", path=lambda t: t["id"] + ".mp4")

    lists = {
        "a": task(("1", "train"), ("2", "train"), ("3", "val"), ("4", "test"), ("5", "test")),
        "b": task(("1", "test"), ("3", "test"), ("4", "test"), ("6", "test"), ("2", "train"), ("2", "val")),
        "c": task(("5", "test"), ("6", "train")),
    }
    found = leaks(lists)
    assert found[0] == "b: 1 clips are in two of its splits."
    assert found[1].startswith("the tasks were split independently: 2 of 6 clips are in train of one task and in test")
    assert found[2:4] == [
        "of the 4 test clips of b, other tasks hold in train / val / unseen: a 1 / 1 / 1, c 1 / 0 / 0.",
        next(sentence for sentence in found if "no patients" in sentence),
    ]
    assert len(found) == 4 and len(counts(lists)) == 1


def test_splits_made_for_all_tasks_together_have_no_leak_between_them():
    table = pd.DataFrame({"id": list("abcd"), "split": ["train", "train", "val", "test"], "diagnosis": "normal"})
    table["path"] = table["id"]
    lists = {"x": table, "y": table.iloc[1:]}
    assert len(leaks(lists)) == 1 and counts(lists)[1] == "within each task no clip is in two splits."


def test_the_published_lists_leak_as_known(shared_data):
    lists = read_lists(shared_data / "erdes_splits")
    assert "5,381 clips" in counts(lists)[0] and "macula_detached_vs_intact 360 / 41 / 101" in counts(lists)[0]
    assert "within each task no clip is in two splits." in counts(lists)
    found = leaks(lists)
    assert "2,571 of 5,381 clips" in found[0]
    macula = next(sentence for sentence in found if sentence.startswith("of the 101 test clips of macula"))
    assert "non_rd_vs_rd 80 / 5 / 16" in macula
    assert "normal_vs_rd 72 / " in macula and "pvd_vs_rd 72 / " in macula
    detachment = next(sentence for sentence in found if sentence.startswith("of the 1,077 test clips of non_rd_vs_rd"))
    assert "normal_vs_rd 690 / " in detachment and "normal_vs_pvd 677 / " in detachment
    assert "macula_detached_vs_intact 72 / 12 / 16" in detachment
    assert any("the 6 values of their part 1 (164267" in sentence for sentence in found)
    assert any("no patients or eyes" in sentence for sentence in found)


def test_the_published_lists_as_a_layout(shared_data):
    table, labels = to_manifest(shared_data / "erdes_splits")
    assert table.attrs["layout"] == "erdes_lists" and len(table) == 5381 and table[list(labels)].sum().item() == 502
    counted = pd.crosstab(table["diagnosis"], table["split"]).loc[:, ["train", "val", "test"]]
    assert counted.loc["macula_detached"].tolist() == [221, 24, 58]
    assert counted.loc["normal"].tolist() == [3043, 340, 850]


# Others


def test_real_clips_with_a_column_of_classes(shared_data):
    options = {"class_column": "label", "patient_column": "group"}
    table, labels = to_manifest(shared_data / "pocus/manifest.csv", **options)
    assert table.attrs["layout"] == "csv" and labels == ("covid", "pneumonia", "regular", "viral")
    assert table[list(labels)].sum().tolist() == [6, 29, 21, 2] and table.attrs["exclusive"]
    assert table["split"].value_counts().to_dict() == {"train": 44, "val": 14}
    assert any("(pneu, reg, cov, ...)" in warning for warning in table.attrs["warnings"])


def test_clips_of_ones_own_are_recognised(tmp_path):
    touch(tmp_path / "classes", *(f"{name}/{i}.avi" for name in ("ill", "normal") for i in range(6)))
    assert recognise(tmp_path / "classes") == "folders"
    assert to_manifest(tmp_path / "classes", each_file_own_patient=True)[1] == ("ill",)
    touch(tmp_path / "flat", "1.mp4", "2.webm", "3.png")
    with pytest.raises(DataError, match="no known layout"):
        recognise(tmp_path / "flat")
    table, labels = to_manifest(tmp_path / "flat", "unlabelled", each_file_own_patient=True)
    assert labels == () and table["path"].tolist() == ["1.mp4", "2.webm"]
    assert table.attrs["left_out"] == {"empty file": 1}


def test_every_layout_names_the_folder_in_its_errors(tmp_path):
    for name in LAYOUTS:
        with pytest.raises(DataError, match=tmp_path.name):
            to_manifest(tmp_path, name)


@pytest.mark.parametrize("lists", [True, False])
def test_a_row_on_the_raw_set_is_of_the_official_test_list(tmp_path, lists):
    """What `reproduce` makes of a download holds the paper's test list where the lists lie in it."""
    task, root = "pvd_vs_rd", tree(tmp_path / "erdes")
    listed = official_lists(root / "splits" if lists else tmp_path / "elsewhere")
    expected = read_lists(listed)[task].query("split == 'test'")["id"]
    table = replace(TABLES["erdes/pvd_vs_rd"], test=TestList(len(expected), ids_fingerprint(expected)))
    manifest = reproduce._manifest(reproduce.Request(table, load("erdes"), tmp_path), root, tmp_path / "out")
    assert manifest.path.parent.name == f"erdes-{task}"
    ids = manifest.with_labels((task,)).rows("test").table["id"]
    found = verdict.obstacle(Measured({}, requested=len(ids), ids=ids_fingerprint(ids)), table.test, False, False)
    assert found == "" if lists else found.startswith(verdict.ANOTHER_LIST)
