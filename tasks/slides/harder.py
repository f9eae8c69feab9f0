"""What the slides demo's pre-training is worth: a probe on the tiles of slides that are harder than its own.

Every slide has benign nests as dense and as dark as the tumour's, so that only the nuclei tell the two apart; on the
demo's other slides random weights and mean colour tell tumour nearly as well as a trained encoder.
"""

from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from ...backbone.encoder import read_encoder_card, save_encoder
from ...backbone.vit import ViT
from ...core.files import write_text
from ...mil.extract import extract
from ...phantoms.slides import write_camelyon16
from ...stages.prepare import prepare_stage
from ...stages.slides.tile import tile_slides
from ...stages.slides.tile_probe import TileProbe, tile_probe
from .layouts import LAYOUTS
from .recipes import extract_demo, tile_demo

OUTLINED = (1, 2, 4, 8)
SIDES_PX = (2000, 2400)


def probe_harder(out: Path, encoder: Path, seed: int, slides: tuple[int, int, int]) -> TileProbe:
    """Invent slides with benign nests, and hold the encoder's features against those of random weights.

    Args:
        out: Folder to write; repeating continues there.
        encoder: It has not seen these slides.
        seed: Of the slides, of the random weights and of the choices of outlined slides.
        slides: How many: normal and with tumour to learn from, with tumour to judge.

    Returns:
        The probe, by the number of slides whose outlines are learned from.
    """
    root = out / "camelyon16"
    if not (root / "whole").is_file():
        normal, tumour, test = slides
        with tqdm(total=sum(slides), unit="slide", disable=None) as bar:
            write_camelyon16(
                root, normal=normal, tumour=tumour, test=test, seed=seed + 1000, size_px=SIDES_PX, mimics=True,
                test_tumour=1.0, progress=lambda *_: bar.update(),
            )  # fmt: skip
        write_text(root / "whole", "")
    manifest, *_ = prepare_stage(LAYOUTS, root, out / "manifest.csv")
    tiles = out / "tiles"
    tile_slides(tile_demo(), manifest, tiles)
    features = {"pre-trained": out / "features", "random weights": out / "features-random"}
    encoders = encoder, _random(encoder, out / "random", seed)
    for one, folder in zip(encoders, features.values()):
        extract(extract_demo(), manifest, tiles, folder, str(one))
    return tile_probe(features, manifest, manifest.labels[0], OUTLINED, seed=seed)


def _random(encoder: Path, folder: Path, seed: int) -> Path:
    """Write an encoder like another one whose weights are random, and return its folder."""
    card = read_encoder_card(encoder)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return save_encoder(folder, ViT(card.arch), replace(card, method="none", recipe={}, data={}))
