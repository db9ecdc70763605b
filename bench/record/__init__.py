"""The events of a Run, and everything that is derived from them."""
