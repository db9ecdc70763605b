"""The commands of alexnet-bench, one module each."""
