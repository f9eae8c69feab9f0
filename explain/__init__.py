"""Where a model looked: relevance, attention, importance of frames."""
