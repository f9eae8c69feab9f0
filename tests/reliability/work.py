"""Phantoms, and an undisturbed run of every command on them."""

import time
from pathlib import Path

import pandas as pd
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.phantoms.radiographs import write_chestxray14
from clinvit.phantoms.slides import write_camelyon16
from clinvit.tests.reliability.commands import finish

COMMANDS = ["prepare", "pretrain", "finetune", "extract", "predict", "evaluate"]
TINY = (
    "--model.size micro --model.image_size 32 --augment.size 32 --model.patch_size 8 --data.cache_px 64 "
    "--optim.batch_size 8 --optim.warmup_epochs 1"
).split()
RUN = "--run.checkpoint_minutes 0 --run.precision 32-true".split()


class Work:
    """Phantoms, and an undisturbed run of every command, each made when it is first needed."""

    def __init__(self, root: Path):
        self.root, self.output = root, root / "output.txt"
        self.seconds: dict[str, float] = {}
        write_chestxray14(root / "raw", patients=26, size=256)
        write_camelyon16(root / "slides", normal=2, tumour=2, test=2, size_px=(1472, 1536))
        finish(["prepare", "slides", root / "slides", "--out", root / "slides.csv"], self.output)
        # One phantom has no scale, as real ones at times: here it is filled in, as the message would ask for.
        table = pd.read_csv(root / "slides.csv", dtype=str)
        table.assign(mpp=table["mpp"].fillna("0.5")).to_csv(root / "slides.csv", index=False)
        tiling = ["--recipe", "demo", "--data", root / "slides.csv", "--out", root / "tiles"]
        finish(["tile", "slides", *tiling], self.output)
        torch.manual_seed(0)
        arch = Architecture(16, 4, 2, image_size=(64, 64), patch_size=16, channels=3)
        save_encoder(root / "encoder", ViT(arch), EncoderCard(arch, (0.6, 0.5, 0.6), (0.2, 0.2, 0.2)))

    def arguments(self, name: str, out: Path, epochs: int = 6) -> list:
        """The command `name` that writes into `out`."""
        if name in ("dino", "mil"):
            verb, recipe, more = self._of_slides(name)
            places = ["--data", self.root / "slides.csv", "--out", out / "run", "--optim.epochs", epochs]
            return [verb, "slides", "--recipe", recipe, *places, *more, *RUN]
        if name == "prepare":
            return ["prepare", "thorax", self.root / "raw", "--out", out / "manifest.csv", "--cache-px", 64]
        if name == "extract":
            stages = ["--data", self.root / "slides.csv", "--tiles", self.root / "tiles", "--out", out]
            return ["extract", "slides", "--recipe", "demo", "--encoder", self.root / "encoder", *stages]
        manifest = self.undisturbed("prepare") / "manifest.csv"
        if name in ("pretrain", "finetune"):
            places = ["--data", manifest, "--out", out / "run", "--cache", out / "cache", "--optim.epochs", epochs]
            more = self._more() if name == "finetune" else []
            return [name, "thorax", "--recipe", "tiny", *places, *more, *TINY, *RUN]
        run = self.undisturbed("finetune") / "run"
        if name == "predict":
            model = ["--model", run / "model", "--batch", 2, "--resume"]
            return ["predict", "thorax", manifest, *model, "--out", out / "p.csv"]
        return ["evaluate", run, "--data", manifest, "--out", out, "--resamples", 200]

    def _of_slides(self, name: str) -> tuple[str, str, list]:
        if name == "dino":
            small = "--model.size micro --head.out_dim 256 --head.hidden 64 --crops.local_crops 2".split()
            few = ["--tiles_per_slide", 8, "--stain.method", "none", "--optim.batch_size", 8]
            return "pretrain", "demo", ["--tiles", self.root / "tiles", *few, *small]
        return "finetune", "tiny", ["--features", self.undisturbed("extract"), "--select", "last"]

    def _more(self) -> list:
        return ["--encoder", self.undisturbed("pretrain") / "run/encoder", "--data.labels", "[Effusion, Infiltration]"]

    def undisturbed(self, name: str) -> Path:
        """The folder of a command that nothing has disturbed."""
        out = self.root / "undisturbed" / name
        if name not in self.seconds:
            arguments = self.arguments(name, out)
            began = time.monotonic()
            finish(arguments, self.output)
            self.seconds[name] = time.monotonic() - began
        return out
