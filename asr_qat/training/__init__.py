"""Training runs on plain Keras `fit`."""
