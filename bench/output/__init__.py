"""What a person or another program sees of a Run: tables, plots, the report, exports."""
