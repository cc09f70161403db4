"""A grid of runs: named, trained in jobs, and followed."""
