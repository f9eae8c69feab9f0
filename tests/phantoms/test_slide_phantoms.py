import hashlib
import zipfile
from itertools import pairwise

import numpy as np
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_csv
from clinvit.datasets.slides.outlines import rasterise, read_outlines, tumour_fraction
from clinvit.phantoms.histology import BLOCK_PX, Histology
from clinvit.phantoms.histology_fields import CELL_UM, TEXTURE_PX, fibres, smooth
from clinvit.phantoms.histology_nuclei import KINDS, stamps
from clinvit.phantoms.histology_stain import CENTRES, Stain, colours
from clinvit.phantoms.slides import outlines_of, write_camelyon16, write_pyramid, write_slide_folder
from hypothesis import given, settings
from hypothesis import strategies as st

openslide = pytest.importorskip("openslide")
SMALL = (1088, 1400)


def drawn(width=1200, height=1000, **options):
    return np.vstack(list(Histology(width, height, **{"seed": 3, "tumours": 1, **options}).strips()))


def pixels(slide, level=0):
    return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB"))


@pytest.fixture(scope="module")
def camelyon(tmp_path_factory):
    return write_camelyon16(tmp_path_factory.mktemp("c16"), normal=2, tumour=2, test=3, size_px=SMALL, seed=4)


def test_any_part_is_cut_from_the_same_slide():
    slide = Histology(1300, 1100, seed=5, tumours=1, pen=True)
    whole = np.vstack(list(slide.strips()))
    assert whole.shape == (1100, 1300, 3) and whole.dtype == np.uint8
    for left, top in ((0, 0), (700, 300), (333, 511)):
        part = slide.region(left, top, 300, 200).astype(int)
        # Curved outlines are rounded to sixteenths of a pixel from another corner: a grey value or two at their edge.
        assert np.abs(part - whole[top : top + 200, left : left + 300]).max() <= 24
        assert np.abs(part - whole[top : top + 200, left : left + 300]).mean() < 0.05


def test_the_same_seed_gives_the_same_slide_and_another_another():
    one, again, other = drawn(), drawn(), drawn(seed=4)
    np.testing.assert_array_equal(one, again)
    assert (np.abs(one.astype(int) - other) > 8).any(axis=-1).mean() > 0.2


def test_glass_is_pale_and_tissue_coloured():
    image = drawn(2048, 2048)
    coloured = np.ptp(image, axis=-1) > 25
    assert 0.15 < coloured.mean() < 0.8
    assert image[:40].min() > 225 and image[:, :40].min() > 225  # the section does not reach the edge
    red, green, blue = image[coloured].mean(axis=0)
    assert red > green and blue > green  # pink and violet


def test_tumour_lies_on_tissue_and_is_richer_in_nuclei_than_the_rest_of_it():
    slide = Histology(3000, 2600, seed=8, tumours=2)
    image = np.vstack(list(slide.strips()))
    mask = rasterise(outlines_of(slide), 3000, 2600, 1)
    tissue = np.ptp(image, axis=-1) > 25
    assert slide.tumour and 0.01 < mask.mean() < 0.6
    assert tissue[mask].mean() > 0.9
    dark = image[..., 0] < 150
    assert dark[mask].mean() > 1.3 * dark[tissue & ~mask].mean()


def test_a_healthy_slide_has_no_outline():
    assert outlines_of(Histology(1000, 1000, seed=0)) == []


def test_the_pen_marks_glass():
    clean, marked = drawn(seed=11), drawn(seed=11, pen=True)
    assert 0.001 < (np.abs(clean.astype(int) - marked) > 40).any(axis=-1).mean() < 0.2


def test_a_slide_is_as_large_in_microns_at_any_scale():
    fine, coarse = Histology(2400, 2000, seed=2, mpp=0.5), Histology(1200, 1000, seed=2, mpp=1.0)
    assert abs(len(fine._anatomy.nuclei.x) / len(coarse._anatomy.nuclei.x) - 1) < 0.01
    assert stamps(0.5).shape[-1] == pytest.approx(2 * stamps(1.0).shape[-1], abs=3)


@pytest.mark.parametrize("options", [{"width": 300}, {"height": 799}, {"mpp": 0.1}, {"mpp": 0}, {"mpp": 8.0}])
def test_too_small_a_slide_is_refused(options):
    with pytest.raises(UserError, match="400 µm"):
        drawn(**options)


def test_textures_repeat_and_noise_is_as_described():
    texture = fibres(0.5)
    np.testing.assert_array_equal(texture[:TEXTURE_PX], texture[TEXTURE_PX:])
    along, across = (np.abs(np.diff(texture.astype(int), axis=axis)).mean() for axis in (1, 0))
    assert across > 2 * along  # fibres run along x
    noise = smooth((400, 500), 24.0, np.random.default_rng(0))
    assert noise.shape == (400, 500) and abs(noise.mean()) < 0.2 and noise.std() == pytest.approx(1, abs=0.15)


def test_tumour_nuclei_are_larger_and_less_alike():
    areas = dict(zip(KINDS, (stamps(0.5) > 30).sum(axis=(-1, -2))))
    assert areas["tumour"].mean() > 1.3 * areas["epithelial"].mean() > 1.3 * areas["lymphocyte"].mean()
    assert areas["tumour"].std() / areas["tumour"].mean() > 1.4 * areas["epithelial"].std() / areas["epithelial"].mean()


@settings(max_examples=40, deadline=None)
@given(
    blue=st.integers(0, 120), pink=st.integers(0, 120), centre=st.integers(0, len(CENTRES) - 1), seed=st.integers(0, 9)
)
def test_colours_follow_beer_and_lambert(blue, pink, centre, seed):
    stain = Stain.draw(centre, np.random.default_rng(seed))
    amounts = [np.full((2, 3), value, np.uint8) for value in (blue, pink)]
    found = colours(*amounts, stain.tables())
    expected = stain.light * np.exp(-(blue * stain.absorption[0] + pink * stain.absorption[1]) / 100)
    np.testing.assert_allclose(found, np.broadcast_to(expected, (2, 3, 3)), atol=1.6)


@pytest.mark.parametrize("height, width", [(1280, 1536), (700, 1000), (300, 200)])
def test_a_pyramid_is_what_openslide_reads(tmp_path, height, width):
    image = drawn(1600, 1300)[:height, :width]
    write_pyramid(tmp_path / "a.tif", (image[y : y + BLOCK_PX] for y in range(0, height, BLOCK_PX)), mpp=0.25)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-x"]) == float(slide.properties["openslide.mpp-y"]) == 0.25
        assert slide.dimensions == (width, height)
        assert max(slide.level_dimensions[-1]) <= 512
        for level, (wide, high) in enumerate(slide.level_dimensions):
            assert (wide, high) == (width >> level, height >> level)
            small = image[: high << level, : wide << level].reshape(high, 1 << level, wide, 1 << level, 3)
            difference = np.abs(small.mean(axis=(1, 3)) - pixels(slide, level))
            assert difference.mean() < 4  # JPEG


def test_a_pyramid_is_whole_or_not_there(tmp_path):
    def broken():
        yield np.zeros((BLOCK_PX, 600, 3), np.uint8)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_pyramid(tmp_path / "a.tif", broken(), mpp=None)
    assert list(tmp_path.iterdir()) == []


def test_the_tree_is_that_of_camelyon16(camelyon):
    files = sorted(path.relative_to(camelyon).as_posix() for path in camelyon.rglob("*") if path.is_file())
    assert files == [
        "testing/images/test_001.tif",
        "testing/images/test_002.tif",
        "testing/images/test_003.tif",
        "testing/lesion_annotations.zip",
        "testing/lesion_annotations/test_002.xml",
        "testing/reference.csv",
        "training/lesion_annotations.zip",
        "training/lesion_annotations/tumor_001.xml",
        "training/lesion_annotations/tumor_002.xml",
        "training/normal/normal_001.tif",
        "training/normal/normal_002.tif",
        "training/tumor/tumor_001.tif",
        "training/tumor/tumor_002.tif",
    ]
    lines = (camelyon / "testing" / "reference.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines] == [
        ["test_001", "Normal"],
        ["test_002", "Tumor"],
        ["test_003", "Normal"],
    ]
    with zipfile.ZipFile(camelyon / "training" / "lesion_annotations.zip") as packed:
        for name in ("tumor_001.xml", "tumor_002.xml"):
            assert packed.read(name) == (camelyon / "training" / "lesion_annotations" / name).read_bytes()


def test_one_slide_of_the_tree_has_no_scale(camelyon):
    scales = {}
    for path in camelyon.rglob("*.tif"):
        with openslide.OpenSlide(path) as slide:
            scales[path.stem] = slide.properties.get("openslide.mpp-x")
    assert [name for name, scale in scales.items() if scale is None] == ["normal_002"]
    assert {float(scale) for scale in scales.values() if scale} == {0.5}


def test_outlines_of_the_tree_lie_on_tissue(camelyon):
    for path in camelyon.glob("training/lesion_annotations/*.xml"):
        with openslide.OpenSlide(camelyon / "training" / "tumor" / f"{path.stem}.tif") as slide:
            image, (width, height) = pixels(slide), slide.dimensions
        outlines = read_outlines(path)
        mask = rasterise(outlines, width, height, 1)
        assert (np.ptp(image, axis=-1) > 25)[mask].mean() > 0.85
        x, y = np.meshgrid(np.arange(0, width, 64), np.arange(0, height, 64))
        share = tumour_fraction(np.stack([x, y], axis=-1).reshape(-1, 2), 64, outlines)
        assert share.sum() * 64**2 == pytest.approx(mask.sum(), rel=0.02)


def test_a_slide_does_not_depend_on_how_many_there_are(camelyon, tmp_path):
    write_camelyon16(tmp_path, normal=0, tumour=1, test=0, size_px=SMALL, seed=4)
    one, other = (root / "training" / "tumor" / "tumor_001.tif" for root in (camelyon, tmp_path))
    assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()


def test_a_folder_of_slides_has_its_table(tmp_path):
    done = []
    write_slide_folder(tmp_path, slides=4, size_px=SMALL, progress=lambda *count: done.append(count))
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    table = read_csv(tmp_path / "labels.csv")
    assert table["tumor"].tolist() == ["0", "1", "0", "1"] and table["patient"].nunique() == 2
    for row in table.itertuples():
        with openslide.OpenSlide(tmp_path / row.path) as slide:
            assert ("openslide.mpp-x" in slide.properties) == (row.mpp == "")
        assert bool(row.annotation) == (row.tumor == "1")
        assert not row.annotation or read_outlines(tmp_path / row.annotation)


@pytest.mark.parametrize("options", [{"tumour": 0}, {"size_px": (900, 800)}, {"size_px": (0, 800)}])
def test_sets_that_are_none_are_refused(tmp_path, options):
    with pytest.raises(UserError, match="slides of"):
        write_camelyon16(tmp_path, **{"normal": 0, "tumour": 1, "test": 0, "size_px": SMALL, **options})


@pytest.mark.thorough
def test_texture_tells_the_tumour_and_the_colour_of_a_slide_does_not():
    """Tiles of 112 µm by the amount of detail at two sizes; slides by their mean colour."""
    from scipy.ndimage import gaussian_filter
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, truth, group, colour = [], [], [], []
    for number in range(16):
        slide = Histology(2560, 2560, seed=number, tumours=number % 2, centre=number // 2 % 2)
        image = np.vstack(list(slide.strips()))
        x, y = np.meshgrid(np.arange(0, 2560 - 224, 224), np.arange(0, 2560 - 224, 224))
        coords = np.stack([x, y], axis=-1).reshape(-1, 2)
        tiles = np.stack([image[y : y + 224, x : x + 224] for x, y in coords])
        solid = (np.ptp(tiles, axis=-1) > 25).mean(axis=(1, 2)) > 0.6
        colour.append(tiles[solid].mean())
        red = tiles[solid, ..., 0].astype(np.float32)
        blurred = [gaussian_filter(red, (0, s, s)) for s in (1, 2, 4, 8)]
        rows.append(np.stack([np.log((a - b).std(axis=(1, 2))) for a, b in pairwise(blurred)], axis=1))
        truth.append(tumour_fraction(coords[solid], 224, outlines_of(slide)) > 0.5)
        group += [number] * int(solid.sum())
    rows, truth, group = np.concatenate(rows), np.concatenate(truth), np.array(group)
    train = group < 8
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[train], truth[train])
    assert roc_auc_score(truth[~train], model.predict_proba(rows[~train])[:, 1]) > 0.9
    assert 0.2 < roc_auc_score(np.arange(16) % 2, colour) < 0.8


def test_mimics_are_benign_nests_of_the_tumours_colour():
    """Every slide has them, also those with tumour, outside of its outlines; without the option nothing changes."""
    slide = Histology(3000, 3000, seed=7, tumours=1, mimics=True)
    healthy = Histology(1400, 1400, seed=7, mimics=True)
    kinds = list(KINDS)
    assert (healthy._anatomy.nuclei.kind == kinds.index("hyperplastic")).sum() > 50
    assert not (healthy._anatomy.nuclei.kind == kinds.index("tumour")).any()
    assert not (Histology(1400, 1400, seed=7)._anatomy.nuclei.kind == kinds.index("hyperplastic")).any()
    image, nuclei = np.vstack(list(slide.strips())), slide._anatomy.nuclei
    diseased = rasterise(outlines_of(slide), 3000, 3000, 1)
    mean, within = {}, {}
    for name in ("tumour", "hyperplastic"):
        chosen = nuclei.kind == kinds.index(name)
        x, y = nuclei.x[chosen], nuclei.y[chosen]
        within[name] = diseased[y, x].mean()
        mean[name] = np.mean([image[b - 16 : b + 16, a - 16 : a + 16].mean(axis=(0, 1)) for a, b in zip(x, y)], axis=0)
    assert within["tumour"] > 0.98 and within["hyperplastic"] == 0
    assert np.abs(mean["tumour"] - mean["hyperplastic"]).max() < 8


@pytest.mark.slow
def test_a_large_slide_takes_little_memory():
    import tracemalloc

    slide = Histology(20_000, 12_000, seed=1, tumours=3)
    tracemalloc.start()
    for number, strip in enumerate(slide.strips()):
        assert strip.shape[1] == 20_000
        if number == 6:
            break
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 2**20 and slide._anatomy.tissue.nbytes < 4 * (20_000 * 0.5 / CELL_UM + 2) ** 2
