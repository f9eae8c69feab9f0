import hashlib

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import UserError
from clinvit.phantoms.eye import DISC_HALF, MACULA_HALF, Eye, on_wall, turned
from clinvit.phantoms.eye_findings import membranes
from clinvit.phantoms.eye_motion import Motion
from clinvit.phantoms.ocular import PLACES, eye_phantom, write_erdes
from sklearn.metrics import roc_auc_score

DETACHED = ("macula_detached_bilateral", "macula_detached_td")
INTACT = ("macula_intact_nd", "macula_intact_td")
COUNTS = {
    "Non_Retinal_Detachment/Normal/164267": 5,
    "Non_Retinal_Detachment/Posterior_Vitreous_Detachment/825315": 4,
    "Retinal_Detachment/Macula_Intact/ND/258033": 1,
    "Retinal_Detachment/Macula_Intact/TD/102769": 3,
    "Retinal_Detachment/Macula_Detached/Bilateral/755384": 2,
    "Retinal_Detachment/Macula_Detached/TD/405744": 2,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A written set, its table, and what `progress` was told."""
    seen = []
    root = write_erdes(
        tmp_path_factory.mktemp("erdes"),
        clips=dict(zip(PLACES, COUNTS.values())), size_px=64, seconds=(0.2, 0.6), fps=20.0,
        progress=lambda *done: seen.append(done),
    )  # fmt: skip
    return root, pd.read_csv(root / "metadata.csv", keep_default_na=False), seen


@pytest.fixture(scope="module")
def eyes():
    """`eyes(diagnosis)`: 25 eyes with their movement and their membranes."""

    def draw(diagnosis):
        for seed in range(25):
            rng = np.random.default_rng((11, seed))
            eye, motion = Eye.draw(rng), Motion(60, 25.0, rng)
            yield eye, motion, membranes(diagnosis, eye, motion, rng)

    return draw


def decode(path):
    with av.open(str(path)) as file:
        rate = float(file.streams.video[0].average_rate)
        return np.stack([frame.to_ndarray(format="rgb24")[..., 0] for frame in file.decode(video=0)]), rate


def digest(folder):
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def lift(sheet, centre, half):
    """Least distance of a sheet from the wall, over all frames, where it lies before a part of it; NaN if nowhere."""
    angle = np.arctan2(sheet.points[..., 0], sheet.points[..., 1])
    height = 1 - np.hypot(sheet.points[..., 0], sheet.points[..., 1])
    before = np.abs(angle - centre) < half
    return height[before].min() if before.any() else np.nan


def mobility(sheet, motion):
    """Movement of a sheet against the globe, per movement of the globe."""
    return np.sqrt(sheet.points.var(0).sum(-1).mean()) / motion.gaze.std()


@pytest.mark.parametrize("diagnosis", PLACES)
def test_a_clip_is_grey_moves_and_uses_its_range(diagnosis):
    clip = eye_phantom(diagnosis, 3, size_px=64, frames=7)
    assert clip.shape == (7, 64, 64) and clip.dtype == np.uint8
    assert np.ptp(clip) > 150 and (clip[0] != clip[-1]).mean() > 0.2


def test_the_vitreous_is_black_between_lens_and_wall():
    clips = np.stack([eye_phantom("normal", seed, size_px=96, frames=2)[-1] for seed in range(8)]).astype(float)
    vitreous, wall = clips[:, 44:56, 40:56].mean(), clips[:, 78:88, 40:56].mean()
    assert vitreous < 40 < 100 < wall


def test_the_same_seed_gives_the_same_eye_whatever_is_found():
    normal, again, ill = (eye_phantom(name, 5, size_px=64, frames=3) for name in ("normal", "normal", DETACHED[0]))
    np.testing.assert_array_equal(normal, again)
    change = np.abs(normal.astype(float) - ill).mean(0)
    assert change[30:50, 16:48].mean() > 2 * change[:8].mean()
    assert (eye_phantom("normal", 6, size_px=64, frames=3) != normal).mean() > 0.3


def test_a_detached_macula_has_retina_in_front_and_an_intact_one_has_not(eyes):
    for diagnosis in DETACHED:
        for eye, _, sheets in eyes(diagnosis):
            assert max(np.nan_to_num(lift(sheet, eye.macula, MACULA_HALF / 2)) for sheet in sheets) > 0.04
    for diagnosis in INTACT:
        for eye, _, sheets in eyes(diagnosis):
            assert all(np.isnan(lift(sheet, eye.macula, MACULA_HALF)) for sheet in sheets)


@pytest.mark.parametrize(
    "diagnosis, sides",
    [("macula_intact_nd", {-1}), ("macula_intact_td", {1}), (DETACHED[1], {1}), (DETACHED[0], {-1, 1})],
)
def test_the_retina_is_off_on_the_side_that_the_label_names(eyes, diagnosis, sides):
    for eye, _, sheets in eyes(diagnosis):
        middles = [sheet.points[:, sheet.points.shape[1] // 2] for sheet in sheets]
        assert {int(np.sign(np.arctan2(*middle.mean(0)) - eye.disc)) for middle in middles} == sides


def test_a_detached_retina_ends_at_disc_and_ora_and_a_hyaloid_passes_the_disc(eyes):
    for eye, _, sheets in eyes(DETACHED[0]):
        for sheet, side, ora in zip(sheets, (-1, 1), eye.ora):
            ends = on_wall(np.array([eye.disc + side * DISC_HALF, ora]))
            np.testing.assert_allclose(sheet.points[:, [0, -1]], np.broadcast_to(ends, (60, 2, 2)), atol=1e-6)
    for eye, _, (hyaloid,) in eyes("pvd"):
        assert lift(hyaloid, eye.disc, DISC_HALF) > 0.04


def test_no_membrane_leaves_the_globe(eyes):
    for diagnosis in list(PLACES)[1:]:
        for _, _, sheets in eyes(diagnosis):
            assert max(np.hypot(*np.moveaxis(sheet.points, -1, 0)).max() for sheet in sheets) < 1 + 1e-9


def test_a_hyaloid_is_fainter_and_swings_more_than_a_retina(eyes):
    hyaloids = [(mobility(sheet, motion), sheet) for _, motion, (sheet,) in eyes("pvd")]
    retinas = [
        (mobility(sheet, motion), sheet)
        for name in (*DETACHED, *INTACT) for _, motion, sheets in eyes(name) for sheet in sheets
    ]  # fmt: skip
    assert min(value for value, _ in hyaloids) > np.median([value for value, _ in retinas])
    assert np.median([value for value, _ in hyaloids]) > 3 * np.median([value for value, _ in retinas])
    faint, bright = ([np.median(sheet.echo) for _, sheet in found] for found in (hyaloids, retinas))
    assert 2 * np.median(faint) < np.median(bright)
    assert max(faint) > min(bright)  # but no threshold tells them apart


def test_a_slack_mass_swings_on_after_the_eye_has_stopped():
    motion = Motion(100, 25.0, np.random.default_rng(0))
    slack, stiff = motion.lag(np.array([1.0, 4.0]), np.array([0.15, 0.5]), np.ones(2)).T
    assert np.abs(slack).max() < 1.5 * np.ptp(motion.gaze)
    assert slack.std() > 2 * stiff.std()
    faster = motion.lag(np.array([1.0]), np.array([0.15]), np.array([2.0]))[:, 0]
    np.testing.assert_allclose(faster, 2 * slack, rtol=1e-9, atol=1e-12)


def test_turning_keeps_distances_and_moves_the_pole_to_the_temple():
    pole = turned(on_wall(np.zeros(1))[None], np.array([0.0, 0.2]))
    np.testing.assert_allclose(pole[:, 0], on_wall(np.array([0.0, 0.2])), atol=1e-12)


@pytest.mark.parametrize("fps", [5.0, 25.0, 60.0])
def test_any_frame_rate_is_stable(fps):
    clip = eye_phantom("pvd", 1, size_px=48, frames=12, fps=fps)
    assert clip.shape == (12, 48, 48) and np.ptp(clip[-1]) > 100


def test_a_tree_is_laid_out_as_downloaded(tree):
    root, _, seen = tree
    assert seen[0] == (1, 17) and seen[-1] == (17, 17)
    expected = {f"{start}_{i:05d}.mp4" for start, count in COUNTS.items() for i in range(1, count + 1)}
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert files == {"metadata.csv", *expected}


def test_the_table_agrees_with_the_files(tree):
    root, table, _ = tree
    assert ",".join(table) == (
        "clip_id,file_path,diagnostic_class,subtype,anatomical_subclass,fps,frame_count,width,height,duration_seconds"
    )
    assert table.clip_id.is_unique and len(table) == 17
    sizes = set()
    for row in table.itertuples():
        clip, rate = decode(root / row.file_path)
        assert clip.shape == (row.frame_count, row.height, row.width) and rate == row.fps == 20.0
        assert row.duration_seconds == pytest.approx(row.frame_count / row.fps, abs=1e-3)
        assert row.width % 2 == row.height % 2 == 0 and 0.85 < row.width / row.height < 1.15
        assert row.file_path.endswith(f"/{row.clip_id}.mp4")
        assert (row.diagnostic_class == "rd") == row.file_path.startswith("Retinal_Detachment")
        assert (row.anatomical_subclass or row.subtype) in {*row.file_path.split("/"), "normal", "pvd"}
        assert (row.subtype == "macula_intact") == ("Macula_Intact" in row.file_path)
        sizes.add(clip.shape)
    assert len(sizes) > 12


def test_the_grey_of_a_file_is_the_grey_of_the_phantom(tmp_path):
    from clinvit.phantoms.ocular import _write_mp4

    clip = eye_phantom("macula_detached_td", 2, size_px=96, frames=6)
    _write_mp4(tmp_path / "clip.mp4", clip, 25.0)
    assert np.abs(decode(tmp_path / "clip.mp4")[0].astype(float) - clip).mean() < 6
    ok, image = cv2.VideoCapture(str(tmp_path / "clip.mp4")).read()
    assert ok and abs(image.mean() - clip[0].mean()) < 2


def test_the_same_seed_gives_the_same_bytes_and_a_clip_does_not_depend_on_the_others(tmp_path):
    options = {"size_px": 64, "seconds": (0.1, 0.3)}
    write_erdes(tmp_path / "a", clips=6, **options)
    write_erdes(tmp_path / "b", clips=6, **options)
    write_erdes(tmp_path / "c", clips={"macula_intact_nd": 1}, **options)
    write_erdes(tmp_path / "d", clips=6, seed=1, **options)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "d")
    clip = "Retinal_Detachment/Macula_Intact/ND/258033_00001.mp4"
    assert (tmp_path / "a" / clip).read_bytes() == (tmp_path / "c" / clip).read_bytes()


@pytest.mark.parametrize("clips", [6, 7, 61, 240, 1000])
def test_a_number_of_clips_is_shared_out_so_that_each_task_has_both_classes(clips):
    from clinvit.phantoms.ocular import _numbers

    numbers = _numbers(clips)
    assert sum(numbers.values()) == clips and min(numbers.values()) >= 1
    detached, intact = (sum(numbers[name] for name in names) for names in (DETACHED, INTACT))
    assert abs(detached - intact) <= 3
    assert abs(detached + intact - numbers["normal"] - numbers["pvd"]) <= max(3, 0.1 * clips)


@pytest.mark.thorough
@pytest.mark.slow
def test_brightness_size_and_length_do_not_tell_the_class(tmp_path):
    root = write_erdes(tmp_path, clips=300, seed=5, size_px=96, seconds=(0.2, 0.6))
    table = pd.read_csv(root / "metadata.csv", keep_default_na=False)
    clips = [decode(root / path)[0] for path in table.file_path]
    traits = {
        "brightness": [clip.mean() for clip in clips],
        "brightest": [np.percentile(clip, 99) for clip in clips],
        "length": table.frame_count,
        "height": table.height,
        "shape": table.width / table.height,
        "bytes": [(root / path).stat().st_size for path in table.file_path],
    }
    rd, subtype = table.diagnostic_class == "rd", table.subtype
    tasks = {
        "non_rd_vs_rd": (~rd, rd),
        "normal_vs_pvd": (subtype == "normal", subtype == "pvd"),
        "macula": (subtype == "macula_detached", subtype == "macula_intact"),
    }
    for task, (zero, one) in tasks.items():
        for trait, values in traits.items():
            auroc = roc_auc_score(one[zero | one], np.asarray(values)[zero | one])
            assert 0.35 < auroc < 0.65, f"{trait} tells {task}: AUROC {auroc:.2f}"


def test_what_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(UserError, match="did you mean 'macula_intact_td'"):
        eye_phantom("macula_intact_dt", 0)
    with pytest.raises(UserError, match="did you mean 'normal'"):
        write_erdes(tmp_path, clips={"normale": 2})
    with pytest.raises(UserError, match="needs a clip"):
        write_erdes(tmp_path, clips={"normal": 0})
    with pytest.raises(UserError, match="one of each"):
        write_erdes(tmp_path, clips=5)
    with pytest.raises(UserError, match="64 px"):
        write_erdes(tmp_path, clips=6, size_px=40)
    with pytest.raises(UserError, match="shortest and the longest"):
        write_erdes(tmp_path, clips=6, seconds=(2.0, 1.0))
    with pytest.raises(UserError, match="positive rate"):
        eye_phantom("normal", 0, fps=0)
    assert list(tmp_path.iterdir()) == []
