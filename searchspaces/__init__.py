"""What Ray Tune may vary: dotted config fields and their distributions."""
