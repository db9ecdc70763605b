"""Plots of result CSVs, one module per kind."""
