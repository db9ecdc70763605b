"""Statistics of durations, independent of files, processes and frameworks."""
