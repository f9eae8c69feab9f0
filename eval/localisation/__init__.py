"""Maps of where a model looked, held against boxes and outlines."""
