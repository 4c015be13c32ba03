"""Figures, tables, the summary and the page of a study."""
