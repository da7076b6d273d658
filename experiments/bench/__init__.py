"""The benchmark, `python -m experiments.bench`, and measurements of single choices."""
