"""What the package costs, as ratios of two things measured in one run: `python -m benchmarks`."""
