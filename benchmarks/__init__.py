"""Speed, as ratios: see ``python -m benchmarks``."""
