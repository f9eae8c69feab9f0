"""Epochs of lightly-train's DINO, by the Python of its own environment: `epoch.py --lightly_python` starts it.

    PYTHON benchmarks/lightly_train_epochs.py FOLDER '{"model": "vit_tiny_patch16_224", "epochs": 3, ...}'

The environment needs lightly-train and timm. Nothing of ours is imported but the clock.
"""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import lightly_train
import torch
from clock import Clock
from pytorch_lightning import Callback, Trainer


class Laps(Callback):
    """Stops the clock after each epoch."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.clock.lap()


def time_epochs(clock: Clock) -> None:
    """Let every trainer stop the clock: no option of lightly-train takes a callback."""
    fit = Trainer.fit

    def timed(trainer, *arguments, **options):
        trainer.callbacks.append(Laps(clock))
        return fit(trainer, *arguments, **options)

    Trainer.fit = timed


def main() -> None:
    """Train, and print the version and the epochs as the last line."""
    folder, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(asked["threads"])
    with tempfile.TemporaryDirectory() as made:
        clock = Clock()
        time_epochs(clock)
        lightly_train.pretrain(
            out=Path(made) / "run",
            data=folder,
            model=f"timm/{asked['model']}",
            model_args={"pretrained": False, "drop_path_rate": asked["drop_path"]},
            method="dino",
            method_args={"output_dim": asked["out_dim"]},
            transform_args={"image_size": (asked["crop"],) * 2, "local_view": {"num_views": asked["local_crops"]}},
            optim="adamw",
            epochs=asked["epochs"],
            batch_size=asked["batch"],
            num_workers=1,
            accelerator="cpu",
            devices=1,
            precision="32-true",
        )
    print("\n" + json.dumps({"version": version("lightly-train"), "times": clock.times}))


if __name__ == "__main__":
    main()
