"""Plots: from the rows of Runs and of CSVs to pictures."""
