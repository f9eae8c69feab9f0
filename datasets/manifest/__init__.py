"""Tables that pass between the stages: the manifest, its splits, layouts of one's own, patients."""
