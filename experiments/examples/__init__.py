"""Models of others on PCM: each script trains one, ages it by a year, reads it."""
