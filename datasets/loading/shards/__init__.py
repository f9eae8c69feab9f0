"""Cached pixels in object storage: packed in shards, fetched once per machine, kept here as far as there is room."""
