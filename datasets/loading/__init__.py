"""From files to batches: cache, shards, isolated readers, limits, loaders."""
