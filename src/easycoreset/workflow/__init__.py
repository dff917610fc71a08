"""The workflow: steps as data, the plans of `compare`, `run` and `analyze`, and one runner for all of them.

Only this package knows the order score -> select -> train -> evaluate.
"""
