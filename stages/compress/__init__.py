"""The stage `compress`: a run folder to the smallest and fastest model that is not worse by more than a margin."""
