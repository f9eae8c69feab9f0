"""All augmentation, and the views in which a case is evaluated."""
