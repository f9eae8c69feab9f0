"""What every training shares: recipes, optimiser, schedule, run folder, checkpoints, progress."""
