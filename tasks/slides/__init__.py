"""Whole slides: multiple-instance learning from gigapixel files to heat maps (Self-ViT-MIL)."""
