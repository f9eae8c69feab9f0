"""Weights in: read a checkpoint without running its code, bring its names to ours, fit it to a ViT, report the rest.

One adapter per source. Our names are timm's, so most sources only need a wrapper or a prefix taken off.
"""

from . import hub
from .architecture import infer_architecture
from .checkpoint import Checkpoint, load_checkpoint, open_checkpoint
from .fit import fold_channels, inflate, load_into, set_weights
from .reading import State, read_checkpoint, read_pickle
from .recognise import Named, recognise
from .report import LoadReport
from .source import Source
from .videomae import join_biases

__all__ = [
    "Checkpoint",
    "LoadReport",
    "Named",
    "Source",
    "State",
    "fold_channels",
    "hub",
    "infer_architecture",
    "inflate",
    "join_biases",
    "load_checkpoint",
    "load_into",
    "open_checkpoint",
    "read_checkpoint",
    "read_pickle",
    "recognise",
    "set_weights",
]
