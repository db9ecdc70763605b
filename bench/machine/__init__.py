"""The machine of a Run: fingerprint, GPU, noise, locks."""
