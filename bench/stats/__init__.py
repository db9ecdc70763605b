"""Statistics of durations. They know nothing of files, processes or frameworks."""
