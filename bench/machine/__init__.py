"""What a Run is made on: fingerprint, GPU, noise, locks."""
