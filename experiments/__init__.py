"""What is launched: absl flags in, a run folder out."""
