"""What runs in a Worker process: standard library, numpy and impls only."""
