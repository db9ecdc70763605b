"""Output of a Run: tables, plots, the report, exports."""
