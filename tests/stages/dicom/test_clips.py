"""Results of multi-frame ultrasound: maps frame by frame, on the frames that the model saw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.cli import main
from clinvit.datasets.settings import Clip
from clinvit.finetune.model import ModelCard, build_model, load_model, save_model
from clinvit.finetune.recipe import View
from clinvit.stages.dicom.write import write_results
from highdicom.pm.sop import pmread
from highdicom.seg import segread

from .conftest import SIZE, heat_maps, result_case, validated


@pytest.fixture
def clip_model(tmp_path) -> Path:
    """A model of clips of 4 frames with a threshold that every case reaches."""
    arch = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8, frames=4, tubelet=2, positions="sine1d")
    card = ModelCard(
        ("Square", "Bar"), {}, False, "full", "vit", "mean", arch, (0.5,), (0.25,), View("squash", None), 40,
        clip=Clip("uniform"), thresholds={"Square": {"value": 0.0, "how": "youden", "split": "val"}},
    )  # fmt: skip
    torch.manual_seed(0)
    return save_model(tmp_path / "model", build_model(card), card)


@pytest.mark.parametrize("kind", ["seg", "pm", "sc", "pdf"])
def test_results_of_clips_are_valid(saved, tmp_path, kind):
    case = result_case(saved("US"), maps=heat_maps((1, 4)), method="gradient", frames=(1, 4))
    (path,) = write_results(case, [kind], tmp_path / "out")
    assert validated(path) == []


def test_regions_and_maps_lie_on_their_frames(saved, tmp_path):
    case = result_case(saved("US"), maps=heat_maps((1, 4)), method="gradient", frames=(1, 4))
    seg, pm = write_results(case, ["seg", "pm"], tmp_path / "out")
    regions = segread(seg)
    assert regions.NumberOfFrames == 2 and regions.pixel_array.shape == (2, *SIZE)
    assert (regions.pixel_array[0] <= regions.pixel_array[1]).all()
    assert regions.pixel_array[1, 0, 0] == 1 and regions.pixel_array[1, -1, -1] == 0
    stored = np.asarray(pmread(pm).pixel_array)
    assert stored.shape == (2, *SIZE) and stored[1, 0, 0] == 65535 and stored[0, 0, 0] == 32768
    for path in (seg, pm):
        dataset = pydicom.dcmread(path)
        items = [
            item.DerivationImageSequence[0].SourceImageSequence[0] for item in dataset.PerFrameFunctionalGroupsSequence
        ]
        assert [item.ReferencedFrameNumber for item in items] == [2, 5]
        assert {item.ReferencedSOPClassUID for item in items} == {"1.2.840.10008.5.1.4.1.1.3.1"}


def test_command_on_multi_frame_ultrasound(saved, tmp_path, clip_model):
    source = saved("US", frames=9)
    out = tmp_path / "results"
    code = main(
        ["predict", "clips", str(source), "--model", str(clip_model), "--out", str(out), "--dicom", "sr,seg,pm,sc,pdf"]
    )
    assert code == 0
    files = {path.stem.rsplit("-", 1)[1]: path for path in (out / "predictions-dicom").glob("*.dcm")}
    assert set(files) == {"sr", "seg", "pm", "sc", "pdf"}
    assert {kind: validated(path) for kind, path in files.items()} == {kind: [] for kind in files}
    assert pydicom.dcmread(files["seg"]).NumberOfFrames == 4
    said = pydicom.dcmread(files["sr"])
    group = said.ContentSequence[-1].ContentSequence[1].ContentSequence
    frames = [item.ReferencedSOPSequence[0].ReferencedFrameNumber for item in group if item.ValueType == "IMAGE"]
    assert len(frames) == 1 and len(frames[0]) == 4


def test_maps_of_a_cropped_clip_lie_within_its_region_of_the_whole_frame(saved, tmp_path, clip_model):
    source = saved("US", frames=9)
    dataset = pydicom.dcmread(source)
    height, width = dataset.Rows, dataset.Columns
    top, left, down, across = height // 4, width // 3, height // 2, width // 2
    pixels = np.zeros((9, height, width, dataset.SamplesPerPixel), np.uint8)
    moving = np.random.default_rng(0).integers(30, 255, (9, down, across, 1), np.uint8)
    pixels[:, top : top + down, left : left + across] = moving
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(source)
    model, card = load_model(clip_model)
    clip = replace(card.clip, roi="moving", roi_margin=0.0)
    save_model(tmp_path / "cropped", model, replace(card, clip=clip))
    shown = {}
    for name in ("model", "cropped"):
        out = tmp_path / f"results-{name}"
        command = ["predict", "clips", str(source), "--model", str(tmp_path / name), "--out", str(out)]
        assert main([*command, "--dicom", "seg,pm"]) == 0
        (file,) = (out / "predictions-dicom").glob("*-pm.dcm")
        shown[name] = np.asarray(pmread(file).pixel_array).max(axis=0)
        assert validated(file) == [] and shown[name].shape == (height, width)
    region = replace(card, clip=clip).reader().region(source)
    assert abs(region.left - left) <= 4 and abs(region.bottom - top - down) <= 4 and not region.whole
    inside = np.zeros((height, width), bool)
    inside[region.top : region.bottom, region.left : region.right] = True
    assert not shown["cropped"][~inside].any() and shown["cropped"][inside].any()
    assert shown["model"][~inside].any(), "a model of whole frames looks at all of them"
