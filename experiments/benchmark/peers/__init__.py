"""Other simulators beside ours: run by hand, in an environment that has both."""
