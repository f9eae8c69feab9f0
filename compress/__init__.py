"""Smaller networks of the same answers: merged idle units, pruned heads and units."""
