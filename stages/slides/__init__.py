"""The stages that only whole slides have: tiles, maps, and prediction from slide files."""
