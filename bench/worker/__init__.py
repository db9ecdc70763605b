"""Code that runs in a Worker process; it imports the standard library, numpy and impls only."""
