"""Whole-slide images: reading, scale, tissue, tiles, stain, outlines and feature files."""
