"""What a Run records, and what is derived from it."""
