"""Published checkpoints of the ERDES baselines: the names say which network, then it is loaded strictly."""

from pathlib import Path

from ...backbone.weights import LoadReport, State, read_checkpoint
from ...core.errors import UserError
from .networks import NETWORKS, VolumeClassifier

# The last layer of each kind of network, whose rows are the labels.
LAST = ("cls.fc2.weight", "classification_head.weight", "model.fc.weight", "model.last_linear.weight")
# A tensor that only this network has.
RECOGNISED_BY = {
    "enc.patch_embedding.patch_embeddings.weight": ("vit3d", "mean"),
    "enc.vit.patch_embedding.patch_embeddings.weight": ("unetr", "mean"),
    "model.layer0.conv1.weight": ("senet154", "mean"),
    "enc.layer0.conv1.weight": ("senet154", "topk"),
    "enc.swinViT.patch_embed.proj.weight": ("swinunetr", "mean"),
    "enc.in_tr.conv_block.conv.weight": ("vnet", "mean"),
    "model.conv1.weight": ("resnet3d", "mean"),
    "enc.conv1.weight": ("resnet3d", "topk"),
    "enc.conv_0_0.conv_0.conv.weight": ("unetplusplus", "mean"),
    "enc.encoder.0.basic_module.SingleConv1.conv.weight": ("unet3d", "mean"),
}
# What the published networks hold and never use (see `VolumeClassifier`), as parts of names.
UNUSED = (
    "cross_attn", "enc.vit.norm.", "enc.vit.blocks.10.", "enc.vit.blocks.11.", "enc.encoder", "enc.last_linear.",
)  # fmt: skip


def published_network(state: State) -> tuple[str, str] | None:
    """Return which baseline a state dict holds, and the pool that its names fit; None if no baseline.

    Most networks with `topk` have the names of `mean`.

    Args:
        state: From `read_checkpoint`, with the published prefix `net.` or without.
    """
    state = _names(state)
    if not any(name in state for name in LAST):
        return None
    return next((found for name, found in RECOGNISED_BY.items() if name in state), None)


def load_published(path: str | Path, pool_ratio: float | None = None) -> tuple[str, VolumeClassifier, LoadReport]:
    """Return name and network of a published checkpoint, in eval mode.

    Args:
        path: Lightning's `.ckpt` or safetensors.
        pool_ratio: Share of the time steps that a network with selective pooling averages: it leaves no trace in the
            tensors of most networks. None: the mean of all.

    Raises:
        UserError: It is none of the baselines, or holds more than they have.
    """
    state = _names(read_checkpoint(path))
    found = published_network(state)
    if found is None:
        raise UserError(f"{path}: none of the networks of ERDES ({', '.join(NETWORKS)}).")
    name, pooling = found
    if pooling == "topk" and pool_ratio is None:
        raise UserError(f"{path}: {name} with selective pooling: give the share of time steps with --pool-ratio.")
    pool = {"pool": "mean"} if pool_ratio is None else {"pool": "topk", "pool_ratio": pool_ratio}
    try:
        model = VolumeClassifier(name, _labels(state), **pool)
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from None
    expected = model.state_dict()
    if missing := [key for key in expected if key not in state]:
        raise UserError(f"{path}: {name} with pool {pool['pool']} has {missing[0]}, the file has not.")
    left_over = tuple(key for key in state if key not in expected)
    if strange := [key for key in left_over if not any(part in key for part in UNUSED)]:
        raise UserError(f"{path}: {name} has no place for {strange[0]}: not the published network.")
    for key, tensor in expected.items():
        if state[key].shape != tensor.shape:
            raise UserError(
                f"{path}: {key} is {tuple(state[key].shape)}, in {name} for 96 frames of 128 px {tuple(tensor.shape)}."
            )
    model.load_state_dict({key: state[key] for key in expected})
    return name, model.eval(), LoadReport("erdes", len(expected), (), left_over)


def _names(state: State) -> State:
    return {name.removeprefix("net."): value for name, value in state.items()}


def _labels(state: State) -> int:
    return next(len(state[name]) for name in LAST if name in state)
