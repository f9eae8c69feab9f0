"""A masked autoencoder in a plain PyTorch loop: no recipe, no run folder, no Trainer."""

import clinvit
import torch
from clinvit.pretrain import Decoder, MaskedAutoencoder, draw_masks

STEPS, BATCH = 100, 32

torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
# Smooth images in place of yours: (N, 1, 64, 64), normalised.
images = torch.nn.functional.interpolate(torch.randn(256, 1, 2, 2), size=64, mode="bicubic")
mae = MaskedAutoencoder(clinvit.vit("micro", image_size=(64, 64), patch_size=8), Decoder(64, 2, 4), target="pixels")
optimizer = torch.optim.AdamW(mae.train().parameters(), lr=2e-3, weight_decay=0.05)

for step in range(STEPS):
    batch = images[torch.randint(len(images), (BATCH,), generator=generator)]
    masks = draw_masks(mae.encoder.arch.grid, BATCH, generator, mask="random", mask_ratio=0.75)
    loss = mae(batch, masks).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 10 == 0 or step == STEPS - 1:
        print(f"step {step}, loss {loss.item():.4f}")
