"""Benchmarks: each file answers one question with ratios measured in one run."""
