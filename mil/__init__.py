"""Multiple-instance learning: bags of instance features to a label per bag."""
