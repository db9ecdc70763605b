"""How it is timed: the harness. It never imports a framework; only a Worker loads one, through ``impls.load``."""

__version__ = "0.1.0"
