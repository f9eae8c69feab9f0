"""A light install: images need no part for slides, video or volumes; what needs one says in a line how to get it."""

import json
import sys

import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.core.extras import require
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.video.clips import open_clip
from clinvit.eval.localisation.heat_files import write_heat_tiff
from clinvit.finetune.volumes.networks import VolumeClassifier
from clinvit.phantoms.slides import write_pyramid

PARTS = ("openslide", "tifffile", "simplejpeg", "av", "monai", "einops", "onnx", "onnxruntime", "onnxscript", "peft")
SITE = f"import sys; sys.modules.update(dict.fromkeys({PARTS!r}))"
COMMANDS = "import json, sys; from clinvit.cli import main; print([main(each) for each in json.loads(sys.argv[1])])"
# What a program takes for the beginning of an MP4.
MP4 = b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(100)


def test_what_is_installed_is_given():
    assert require("json", "video", "a test") is json


@pytest.mark.parametrize(
    "module, extra, use",
    [
        ("openslide", "slides", lambda path: open_slide(path)),
        ("av", "video", lambda path: open_clip(path)),
        ("monai", "volumes", lambda path: VolumeClassifier("unet3d", 1, frames=32, size_px=64)),
        ("tifffile", "slides", lambda path: write_pyramid(path, [], mpp=None)),
        ("tifffile", "slides", lambda path: write_heat_tiff(path, None, (64, 64), 0.5)),
    ],
)
def test_a_missing_part_is_one_line_that_says_what_to_install(monkeypatch, tmp_path, module, extra, use):
    (tmp_path / "file").write_bytes(MP4)
    monkeypatch.setitem(sys.modules, module, None)
    for loaded in [name for name in sys.modules if name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    with pytest.raises(UserError, match=rf"needs {module}: pip install 'clinvit\[{extra}\]'$") as refused:
        use(tmp_path / "file")
    assert not isinstance(refused.value, DataError), "nothing is wrong with the file"


@pytest.mark.slow
def test_images_are_checked_without_any_part_and_others_end_in_one_line(python_after, cohort, tmp_path):
    data = cohort(patients=10)
    table = "id,path,patient,split,Right\n" + "".join(f"{i},file.mp4,p{i},train,{i % 2}\n" for i in range(4))
    (tmp_path / "clips.csv").write_text(table)
    (tmp_path / "file.mp4").write_bytes(MP4)
    commands = [["check", "thorax", str(data)], ["check", "erdes", "clips.csv"], ["check", "slides", "clips.csv"]]
    done = python_after(SITE, COMMANDS, json.dumps(commands))
    assert done.stdout.splitlines()[-1] == "[0, 2, 2]", done.stderr
    video, slides = done.stderr.splitlines()
    assert video.endswith("needs av: pip install 'clinvit[video]'")
    assert slides.endswith("needs openslide: pip install 'clinvit[slides]'")
