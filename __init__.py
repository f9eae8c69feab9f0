"""ClinViT: one Vision Transformer from unlabelled clinical images to a clinical report."""

__version__ = "0.1.0"
