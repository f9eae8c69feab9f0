"""Weights out: the same ViT under the names and in the files of other libraries."""
