"""One script an experiment: `python -m experiments.lenet5`; `--help` explains every option."""
