"""A batch of images and texts over two processes; processes that are spawned import it by its name."""

import torch
import torch.distributed as dist
from clinvit.pretrain.report_losses import info_nce, of_all_processes
from torch import Tensor
from torch.nn import functional as F


def pair(rows: int = 6, width: int = 8, seed: int = 0) -> list[Tensor]:
    """Return random images and texts, (rows, width) of length 1."""
    generator = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(rows, width, generator=generator), dim=1) for _ in range(2)]


def half(rank: int, port: int, path: str) -> None:
    """Write loss and gradients of the whole batch, averaged as data parallel training does."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    weight = torch.full((8, 8), 0.1).add_(torch.eye(8)).requires_grad_()
    scale = torch.tensor(4.0, requires_grad=True)
    images, texts = pair()
    own = slice(0, 4) if rank == 0 else slice(4, 6)  # a case of the second could not be read
    x = F.normalize(images[own] @ weight, dim=1)
    loss = info_nce(of_all_processes(x), of_all_processes(texts[own]), scale)
    loss.backward()
    for value in (weight, scale):
        dist.all_reduce(value.grad)
        value.grad /= 2
    if rank == 0:
        torch.save((loss.detach(), weight.grad, scale.grad), path)
    dist.destroy_process_group()
