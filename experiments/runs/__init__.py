"""A run on disk: its folder, what is in it, and what keeps it whole."""
