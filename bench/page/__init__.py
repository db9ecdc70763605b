"""Page: the parts of the report, one HTML file for a browser."""
