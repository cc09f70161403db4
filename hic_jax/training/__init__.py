"""Training: algorithms, steps, evaluation."""
