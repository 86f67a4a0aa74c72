"""Training of the degradation encoder and the restorer."""
