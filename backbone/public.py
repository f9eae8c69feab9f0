"""Public encoders by short names: what is known of each, and where its weights lie on this machine.

Nothing is shipped with ClinViT, and nothing is fetched but by `clinvit weights fetch`. Facts are of the makers' pages
and codes, read in 2026; licences change, so the page is named beside each. Light to import: no torch.
"""

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import RunError, UserError
from ..core.weight_files import bare_file

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "encoder.safetensors")
_OF_A_HUB = ("config.json", "preprocessor_config.json", "model*.safetensors", "*.index.json")
_OURS = ("model.json", "encoder.json", "encoder.safetensors", "out_of_distribution.safetensors")
PREFIXES = ("hf-hub:", "hf_hub:", "timm:")


@dataclass(frozen=True)
class PublicEncoder:
    """What is known of a public encoder.

    Attributes:
        name: As on the command line.
        hub: Owner and name on huggingface.co.
        trained_on: What it has seen.
        licence: As its page says.
        size_px: Side of its input, pixels.
        width: Values of its class token or pooled vector.
        statistics: Mean and std of pixels in 0..1.
        citation: Of the paper.
        gated: Whether the makers' terms must be accepted on its page before it can be fetched.
        file: Of several in the repository, the one that holds the weights.
        network: timm's name, where timm builds it; empty for a folder of transformers.
        settings: What timm is given beside the name.
        frames: Frames of a clip; 1 of images.
        features: Which features its makers use of it.
    """

    name: str
    hub: str
    trained_on: str
    licence: str
    size_px: int
    width: int
    statistics: tuple[tuple[float, ...], tuple[float, ...]]
    citation: str
    gated: bool = False
    file: str = ""
    network: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 1
    features: str = "class token"

    def input_facts(self) -> dict[str, Any]:
        """Return input and normalisation in the words of timm's config.json."""
        size = [3, self.size_px, self.size_px]
        return {"input_size": size, "mean": list(self.statistics[0]), "std": list(self.statistics[1])}


_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
_UNI2 = _SWIGLU | {
    "patch_size": 14, "depth": 24, "num_heads": 24, "init_values": 1e-5, "embed_dim": 1536, "mlp_ratio": 2.66667 * 2,
    "no_embed_class": True, "reg_tokens": 8, "dynamic_img_size": True,
}  # fmt: skip
_VIRCHOW = _SWIGLU | {"init_values": 1e-5, "mlp_ratio": 5.3375, "global_pool": "", "dynamic_img_size": True}
_OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_CXR = ((0.5307,) * 3, (0.2583,) * 3)
_EVA_X = ((0.49185243,) * 3, (0.28509309,) * 3)
_DINOV2 = "Oquab et al. 2024, DINOv2, TMLR"
_DINOV3 = "Siméoni et al. 2025, DINOv3, arXiv 2508.10104"
_EVA = "Yao et al. 2025, EVA-X, npj Digital Medicine, doi 10.1038/s41746-025-02032-z"
_NC_ND = "CC BY-NC-ND 4.0"
_LVD = "142 M photographs (LVD-142M)"
_WEB = "1,689 M photographs (LVD-1689M)"
_X_RAYS = "520 k chest X-rays"
_EVA_16 = {"patch_size": 16, "ref_feat_shape": (14, 14)}

_ENCODERS = (
    # Chest X-rays.
    PublicEncoder(
        "rad-dino", "microsoft/rad-dino", "838 k chest X-rays", "MIT", 518, 768, _CXR,
        "Pérez-García et al. 2025, Nature Machine Intelligence, doi 10.1038/s42256-024-00965-w",
    ),
    PublicEncoder(
        "eva-x-ti", "MapleF/eva_x", _X_RAYS, "MIT", 224, 192, _EVA_X, _EVA,
        file="eva_x_tiny_patch16_merged520k_mim.pt", network="eva02_tiny_patch14_224", settings=_EVA_16,
        features="mean of patch tokens",
    ),
    PublicEncoder(
        "eva-x-s", "MapleF/eva_x", _X_RAYS, "MIT", 224, 384, _EVA_X, _EVA,
        file="eva_x_small_patch16_merged520k_mim.pt", network="eva02_small_patch14_224", settings=_EVA_16,
        features="mean of patch tokens",
    ),
    PublicEncoder(
        "eva-x-b", "MapleF/eva_x", _X_RAYS, "MIT", 224, 768, _EVA_X, _EVA,
        file="eva_x_base_patch16_merged520k_mim.pt", network="eva02_base_patch14_224", settings=_EVA_16,
        features="mean of patch tokens",
    ),
    # Slide tiles.
    PublicEncoder(
        "uni", "MahmoodLab/UNI", "100 M tiles of 100 k slides", _NC_ND, 224, 1024, IMAGENET,
        "Chen et al. 2024, Nature Medicine, doi 10.1038/s41591-024-02857-3", True, network="vit_large_patch16_224",
        settings={"init_values": 1e-5, "dynamic_img_size": True},
    ),
    PublicEncoder(
        "uni2-h", "MahmoodLab/UNI2-h", "200 M tiles of 350 k slides", _NC_ND, 224, 1536, IMAGENET,
        "Chen et al. 2024, Nature Medicine, doi 10.1038/s41591-024-02857-3", True, network="vit_giant_patch14_224",
        settings=_UNI2,
    ),
    PublicEncoder(
        "virchow", "paige-ai/Virchow", "tiles of 1.5 M slides", "Apache 2.0", 224, 2560, IMAGENET,
        "Vorontsov et al. 2024, Nature Medicine, doi 10.1038/s41591-024-03141-0", True,
        network="vit_huge_patch14_224", settings=_VIRCHOW, features="class token and mean of patch tokens",
    ),
    PublicEncoder(
        "virchow2", "paige-ai/Virchow2", "tiles of 3.1 M slides", _NC_ND, 224, 2560, IMAGENET,
        "Zimmermann et al. 2024, arXiv 2408.00738", True, network="vit_huge_patch14_224",
        settings=_VIRCHOW | {"reg_tokens": 4}, features="class token and mean of patch tokens",
    ),
    PublicEncoder(
        "h-optimus-0", "bioptimus/H-optimus-0", "tiles of 500 k slides", "Apache 2.0", 224, 1536, _OPTIMUS,
        "Saillard et al. 2024, github.com/bioptimus/releases", True, network="vit_giant_patch14_reg4_dinov2",
        settings={"init_values": 1e-5, "global_pool": "token"},
    ),
    PublicEncoder(
        "h-optimus-1", "bioptimus/H-optimus-1", "tiles of 1 M slides", _NC_ND, 224, 1536, _OPTIMUS,
        "Bioptimus 2025, huggingface.co/bioptimus/H-optimus-1", True, network="vit_giant_patch14_reg4_dinov2",
        settings={"init_values": 1e-5, "global_pool": "token"},
    ),
    PublicEncoder(
        "gigapath", "prov-gigapath/prov-gigapath", "1,300 M tiles of 171 k slides", "see its page", 224, 1536, IMAGENET,
        "Xu et al. 2024, Nature, doi 10.1038/s41586-024-07441-w", True, network="vit_giant_patch14_dinov2",
        settings={
            "patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 5.33334,
            "init_values": 1e-5,
        },
    ),
    PublicEncoder(
        "phikon", "owkin/phikon", "40 M tiles of TCGA", "Owkin, non-commercial", 224, 768, IMAGENET,
        "Filiot et al. 2023, medRxiv, doi 10.1101/2023.07.21.23292757",
    ),
    PublicEncoder(
        "phikon-v2", "owkin/phikon-v2", "460 M tiles of 58 k slides", "Owkin, non-commercial", 224, 1024, IMAGENET,
        "Filiot et al. 2024, arXiv 2409.09173",
    ),
    PublicEncoder(
        "midnight", "kaiko-ai/midnight", "tiles of 12 k slides of TCGA", "MIT", 224, 3072, HALVES,
        "Karasikov et al. 2025, arXiv 2504.05186", features="class token and mean of patch tokens",
    ),
    # Photographs.
    PublicEncoder("dinov2-s", "facebook/dinov2-small", _LVD, "Apache 2.0", 518, 384, IMAGENET, _DINOV2),
    PublicEncoder("dinov2-b", "facebook/dinov2-base", _LVD, "Apache 2.0", 518, 768, IMAGENET, _DINOV2),
    PublicEncoder("dinov2-l", "facebook/dinov2-large", _LVD, "Apache 2.0", 518, 1024, IMAGENET, _DINOV2),
    PublicEncoder("dinov2-g", "facebook/dinov2-giant", _LVD, "Apache 2.0", 518, 1536, IMAGENET, _DINOV2),
    PublicEncoder(
        "dinov3-s", "facebook/dinov3-vits16-pretrain-lvd1689m", _WEB, "DINOv3", 224, 384, IMAGENET, _DINOV3, True
    ),
    PublicEncoder(
        "dinov3-b", "facebook/dinov3-vitb16-pretrain-lvd1689m", _WEB, "DINOv3", 224, 768, IMAGENET, _DINOV3, True
    ),
    PublicEncoder(
        "dinov3-l", "facebook/dinov3-vitl16-pretrain-lvd1689m", _WEB, "DINOv3", 224, 1024, IMAGENET, _DINOV3, True
    ),
    PublicEncoder(
        "mae-b", "facebook/vit-mae-base", "ImageNet", "Apache 2.0", 224, 768, IMAGENET,
        "He et al. 2022, CVPR, arXiv 2111.06377", features="mean of patch tokens",
    ),
    # Clips.
    PublicEncoder(
        "videomae-b", "MCG-NJU/videomae-base", "Kinetics-400", "CC BY-NC 4.0", 224, 768, IMAGENET,
        "Tong et al. 2022, NeurIPS, arXiv 2203.12602", frames=16, features="mean of patch tokens",
    ),
    PublicEncoder(
        "vjepa2-l", "facebook/vjepa2-vitl-fpc64-256", "1 M hours of video", "MIT", 256, 1024, IMAGENET,
        "Assran et al. 2025, arXiv 2506.09985", frames=64, features="mean of patch tokens",
    ),
)  # fmt: skip
ENCODERS = {encoder.name: encoder for encoder in _ENCODERS}


def encoder_place(source: str | os.PathLike[str]) -> Path:
    """Return where the weights lie that a path or a name means.

    Names are those of `ENCODERS`, `hf-hub:OWNER/NAME`, `timm:NAME` and timm's bare names. A path that is there, or that
    looks like one, is itself; a folder with one file of weights and nothing that says what they are is that file.

    Raises:
        UserError: The weights of a name are not on this machine, or the name is misspelt; says what to do.
    """
    path, text = Path(source), os.fspath(source)
    if os.path.isdir(path):  # noqa: PTH112, which fails on no path, however long
        return bare_file(path) or path
    if os.path.exists(path) or _is_path(text):  # noqa: PTH110
        return path
    hub = _hub_name(text)
    if hub is None:
        raise UserError(_unknown(text))
    found = _cached(*hub)
    if found is None:
        raise UserError(_missing(text, hub[0]))
    return found


def known_weights(path: Path) -> PublicEncoder | None:
    """Return which encoder a file or folder in the hub's cache is; None of any other path."""
    owners = {part.removeprefix("models--").replace("--", "/", 1) for part in path.parts if part.startswith("models--")}
    fitting = [one for one in _ENCODERS if one.hub in owners and one.file in ("", path.name)]
    return fitting[0] if fitting else None


def fetch(source: str, download: Callable[..., str] | None = None) -> Path:
    """Fetch the weights of a name into the hub's cache; returns where they lie.

    Args:
        source: As of `encoder_place`.
        download: In place of `huggingface_hub.snapshot_download`.

    Raises:
        UserError: The name is unknown, or the makers' terms have not been accepted.
        RunError: No network.
    """
    hub = _hub_name(source)
    if hub is None:
        raise UserError(_unknown(source))
    name, file = hub
    if download is None:
        from huggingface_hub import snapshot_download

        download = snapshot_download
    wanted = [file] if file else [*_OF_A_HUB, *_OURS]
    try:
        folder = download(repo_id=name, allow_patterns=wanted)
        if not file and not _weights_in(Path(folder)):
            folder = download(repo_id=name, allow_patterns=[*wanted, "pytorch_model*.bin"])
    except Exception as error:  # the hub's client raises a dozen kinds
        words = " ".join(str(error).split())[:200]
        if type(error).__name__ in ("GatedRepoError", "RepositoryNotFoundError"):
            raise UserError(
                f"{source}: the hub gives it only to who has accepted its terms: log in at "
                f"https://huggingface.co/{name}, accept them, run `hf auth login`, and repeat ({words})."
            ) from None
        raise RunError(f"{source}: could not be fetched from https://huggingface.co/{name} ({words}).") from None
    return Path(folder) / file if file else Path(folder)


def table() -> str:
    """Return the encoders as a table for people: name, input, licence, and whether they are on this machine."""
    lines = [f"{'name':12} {'input':>12} {'values':>6}  {'licence':22} {'here':5} {'of':34} citation"]
    for one in _ENCODERS:
        clip = f"{one.frames} x " if one.frames > 1 else ""
        terms = f"{one.licence}{', gated' if one.gated else ''}"
        here = "yes" if _cached(one.hub, one.file) else "no"
        lines.append(
            f"{one.name:12} {clip + str(one.size_px) + ' px':>12} {one.width:>6}  {terms:22} {here:5} "
            f"{one.trained_on:34} {one.citation}"
        )
    lines.append("Licences as their pages said in 2026: read the page before use (`clinvit weights list NAME`).")
    return "\n".join(lines)


def described(name: str) -> str:
    """Return all facts of an encoder, a line each.

    Raises:
        UserError: There is none of this name.
    """
    if name not in ENCODERS:
        raise UserError(_unknown(name))
    one = ENCODERS[name]
    facts = {
        "page": f"https://huggingface.co/{one.hub}" + (f" ({one.file})" if one.file else ""),
        "trained on": one.trained_on,
        "licence": one.licence + (" (its terms must be accepted on the page)" if one.gated else ""),
        "input": (f"{one.frames} frames of " if one.frames > 1 else "") + f"{one.size_px} x {one.size_px} px",
        "mean": one.statistics[0],
        "std": one.statistics[1],
        "features": f"{one.features}, {one.width} values",
        "citation": one.citation,
        "here": _cached(one.hub, one.file) or f"no; `clinvit weights fetch {one.name}` fetches it",
    }
    return "\n".join([one.name, *(f"  {key}: {value}" for key, value in facts.items())])


def _is_path(text: str) -> bool:
    """Return whether a text can only be a path: a folder or a suffix stands in it."""
    if text.startswith(PREFIXES):
        return False
    return os.sep in text or "/" in text or text.startswith(".") or Path(text).suffix in _SUFFIXES


_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".tar", ".json", ".csv", ".onnx", ".h5", ".npz")


def _hub_name(text: str) -> tuple[str, str] | None:
    """Return owner/name on the hub and the file there (or '') of a name; None where it is unknown."""
    name = text
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    if name in ENCODERS:
        return ENCODERS[name].hub, ENCODERS[name].file
    if text != name and not text.startswith("timm:"):
        return (name, "") if name.count("/") == 1 else None
    import timm

    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if known is None or not known.hf_hub_id:
        return None
    hub = known.hf_hub_id
    return (f"{hub}{name if '.' in name else _tagged(name, known.tag or '')}" if hub.endswith("/") else hub), ""


def _tagged(name: str, tag: str) -> str:
    return f"{name}.{tag}" if tag else name


def _unknown(text: str) -> str:
    import timm

    name = text.removeprefix("timm:")
    close = difflib.get_close_matches(name, [*ENCODERS, *timm.list_models()], n=1, cutoff=0.5)
    near = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"{text}: no such file or folder, and no encoder of this name.{near} `clinvit weights list` names public ones."
    )


def _missing(text: str, hub: str) -> str:
    one = ENCODERS.get(text.removeprefix("timm:"))
    terms = f", after its terms are accepted on https://huggingface.co/{hub}" if one is not None and one.gated else ""
    return (
        f"{text}: its weights are not on this machine, and nothing is fetched unasked. `clinvit weights fetch {text}` "
        f"fetches them{terms}; or copy them here and give the folder."
    )


def _cached(hub: str, file: str) -> Path | None:
    """Return the file or folder in the hub's cache; None where it is not whole."""
    from huggingface_hub import try_to_load_from_cache

    for name in [file] if file else WEIGHTS:
        found = try_to_load_from_cache(hub, name)
        if isinstance(found, str) and os.path.exists(found):  # noqa: PTH110
            return Path(found) if file else Path(found).parent
    return None


def _weights_in(folder: Path) -> bool:
    return any((folder / name).is_file() for name in WEIGHTS)
