"""The `selftest` command: the harness held against known durations, simulated data and real cases."""
