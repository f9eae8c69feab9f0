"""The report: pages, sections, plots, LaTeX, templates."""
