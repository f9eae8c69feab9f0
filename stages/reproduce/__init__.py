"""`clinvit reproduce`: the papers' tables as data (rows of recipes), and what runs, measures and writes them."""
