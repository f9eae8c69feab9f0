"""What all tests share: the golden numbers, and real data where it lies beside the project."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

# Containers often forbid compiled modules; the hundreds of processes that tests start would each compile torch anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

os.environ["CLINVIT_KEY"] = "0123456789abcdef of all tests"

import torch
from clinvit.backbone.sizes import Model
from clinvit.datasets.settings import Clip, Data
from clinvit.datasets.transforms.augment import Augment
from clinvit.engine.recipe import Optim, Run
from clinvit.finetune.recipe import Finetune, View
from clinvit.pretrain.recipe import Decoder, Pretrain
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each of several workers, and for what they start
    os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads()))

DEVICE = os.environ.get("CLINVIT_TEST_DEVICE", "cpu")  # of golden numbers: `benchmarks/gpu.sh`


@pytest.fixture(autouse=DEVICE != "cpu")
def on_device():
    """Make networks and tensors of tests on `DEVICE`, in whole float32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    with torch.device(DEVICE):
        yield


def pytest_collection_modifyitems(items):
    """Run files with tests marked `slow` first: a long file that starts last keeps one process busy alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


class Golden:
    """One file of `tests/golden`: `state`, `inputs`, `outputs` as tensors, `meta` as a dict."""

    def __init__(self, name: str):
        with np.load(ROOT / "tests" / "golden" / f"{name}.npz", allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        self.meta = json.loads(str(arrays.pop("meta")))
        self.state, self.inputs, self.outputs = ({} for _ in range(3))
        groups = {"state": self.state, "in": self.inputs, "out": self.outputs}
        for key, value in arrays.items():
            group, name = key.split("/", 1)
            groups[group][name] = torch.from_numpy(value).to(DEVICE)


@pytest.fixture
def golden():
    """`golden(name)` reads reference numbers of an official implementation."""
    return Golden


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real data that may lie beside the project; it is never part of it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data beside the project (../shared/data)")
    return folder


@pytest.fixture
def cohort(tmp_path):
    """`cohort(patients=...)` writes small images whose labels can be seen (a bright square left, a dark bar right)
    and their manifest; gives the manifest's path.
    """

    def write(patients: int = 40, size: int = 40, folder: str = "data", seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        root = tmp_path / folder
        (root / "images").mkdir(parents=True)
        rows = []
        for patient in range(patients):
            split = ("train", "train", "train", "val", "test")[patient % 5]
            for image in range(2):
                left, right = rng.integers(0, 2, 2)
                pixels = rng.normal(110, 25, (size, size))
                pixels[8:20, 4:16] += 90 * left
                pixels[22:30, 20:38] -= 90 * right
                name = f"images/{patient:03d}_{image}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name)
                known = "" if patient % 7 == 3 else int(right)
                rows.append((f"{patient:03d}_{image}", name, f"p{patient}", split, int(left), known))
        table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "Square", "Bar"])
        table.to_csv(root / "manifest.csv", index=False)
        return root / "manifest.csv"

    return write


@pytest.fixture
def hugging_face_video():
    """Names of Hugging Face's VideoMAE models, pre-training and classification, to the official ones."""

    def official(state: dict) -> dict:
        names = [
            ("videomae.embeddings.patch_embeddings.projection", "encoder.patch_embed.proj"),
            ("videomae.encoder.layer", "encoder.blocks"), ("videomae.layernorm", "encoder.norm"),
            ("classifier", "head"), ("decoder.decoder_layers", "decoder.blocks"),
            ("attention.output.dense", "attn.proj"),
            ("attention.attention.", "attn."), ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"),
            ("layernorm_before", "norm1"), ("layernorm_after", "norm2"),
        ]  # fmt: skip
        out = {}
        for key, value in state.items():
            for old, new in names:
                key = key.replace(old, new)
            out[key.replace("attn.query.bias", "attn.q_bias").replace("attn.value.bias", "attn.v_bias")] = value
        for key in [key for key in out if key.endswith("attn.query.weight")]:
            parts = [out.pop(key.replace("query", part)) for part in ("query", "key", "value")]
            out[key.replace("query", "qkv")] = torch.cat(parts)
        return out

    return official


@pytest.fixture
def clip_cohort(tmp_path):
    """`clip_cohort(patients=...)` writes small clips of a square that drifts to the right (label Right) or to the left,
    each a folder of PNG frames, and their manifest; gives the manifest's path. No frame alone tells the label.
    """

    def write(patients: int = 30, folder: str = "clips", seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        root, rows = tmp_path / folder, []
        for patient in range(patients):
            split = ("train", "train", "train", "val", "test")[patient % 5]
            for number in range(2):
                right, length = int(rng.integers(0, 2)), int(rng.integers(9, 14))
                name = f"{patient:03d}_{number}"
                (root / name).mkdir(parents=True)
                y, x = rng.integers(4, 20, 2)
                for frame in range(length):
                    pixels = rng.normal(60, 12, (32, 32))
                    left = (x + 2 * frame * (1 if right else -1)) % 24
                    pixels[y : y + 8, left : left + 8] += 120
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{frame:03d}.png")
                rows.append((name, name, f"p{patient}", split, right))
        pd.DataFrame(rows, columns=["id", "path", "patient", "split", "Right"]).to_csv(
            root / "manifest.csv", index=False
        )
        return root / "manifest.csv"

    return write


@pytest.fixture
def small_clip_recipes(small_recipes):
    """The same recipes for clips: 8 frames, tubes and running cells, two draws of each clip."""
    pre, fine = small_recipes
    model = replace(pre.model, frames=8, tubelet=2, class_token=False, positions="sine1d")
    pre = replace(
        pre, model=model, mask="tube", decoder_mask="running_cell", decode_ratio=0.5, target="channel",
        decoder=replace(pre.decoder, embed_bias=False), data=replace(pre.data, clip=Clip("strided", 1, repeats=2)),
    )  # fmt: skip
    augment = replace(fine.augment, flip=0.0)  # mirrored, a drift to the right is one to the left
    return pre, replace(fine, model=model, augment=augment, data=replace(fine.data, clip=Clip("dense", 1, repeats=2)))


@pytest.fixture
def small_recipes():
    """A pre-training and a fine-tuning recipe that take seconds."""
    model = Model("micro", image_size=32, patch_size=8)
    data = Data(cache_px=40)
    augment = Augment(size=32, crop_scale=(0.6, 1.0))
    run = Run(precision="32-true", checkpoint_minutes=0)
    optim = Optim(epochs=4, warmup_epochs=1, batch_size=16, base_lr=0.01)
    pre = Pretrain(model=model, decoder=Decoder(32, 1, 2), data=data, augment=augment, optim=optim, run=run)
    fine = Finetune(
        model=model, data=data, augment=augment, view=View("squash", None), run=run,
        optim=replace(optim, betas=(0.9, 0.999), epochs=12, base_lr=0.02, layer_decay=0.8),
    )  # fmt: skip
    return pre, fine
