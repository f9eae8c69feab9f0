"""Own Dataset, network, loss and transform through the whole pipeline: training, thresholds, report."""

import numpy as np
import timm
import torch
from clinvit.engine.recipe import Optim
from clinvit.eval import evaluate
from clinvit.finetune import Finetune, finetune


class Squares(torch.utils.data.Dataset):  # yours: any Dataset that gives an image and a target
    def __init__(self, count: int, seed: int):
        rng = np.random.default_rng(seed)
        self.targets = rng.integers(0, 2, (count, 2)).astype(np.float32)  # a bright square left, a dark one right
        self.images = rng.normal(0.5, 0.1, (count, 64, 64)).clip(0, 1).astype(np.float32)
        self.images[:, 16:48, 4:28] += 0.3 * self.targets[:, :1, None] * (1 - self.images[:, 16:48, 4:28])
        self.images[:, 16:48, 36:60] *= 1 - 0.3 * self.targets[:, 1:, None]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.targets[i]


def focal(logits, target):
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - torch.exp(-each)) ** 2 * each).mean()


if __name__ == "__main__":
    recipe = Finetune(optim=Optim(epochs=5, warmup_epochs=1, batch_size=16, base_lr=0.02, betas=(0.9, 0.999)))
    finetune(
        recipe, data=Squares(64, 0), val=Squares(32, 1), test=Squares(64, 2), out="runs/squares", loss=focal,
        network=timm.create_model("convnext_atto", num_classes=2, in_chans=1), transform=lambda x: x[::-1].copy(),
    )  # fmt: skip
    print(evaluate({"convnext": "runs/squares"}, out="runs/squares-report"))
