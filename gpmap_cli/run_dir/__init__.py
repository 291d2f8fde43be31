"""A run's directory: configuration, status, metrics, predictions, checkpoints, provenance and log."""
