"""Numerical tests of layers: oracles, derivatives, invariances, counters."""

from jaxnn.testing.cells import assert_cell
from jaxnn.testing.comparison import assert_close
from jaxnn.testing.counters import assert_traces, compiled_ops, record_compilations, record_traces
from jaxnn.testing.gradients import assert_gradients
from jaxnn.testing.invariance import assert_invariant
from jaxnn.testing.layer_checks import layer_checks
from jaxnn.testing.oracle import assert_close_to_oracle
from jaxnn.testing.sequences import assert_sequence_invariant
from jaxnn.testing.tolerance import Tolerance, tolerance
from jaxnn.testing.transfers import count_host_transfers, forbid_host_transfers

__all__ = [
    "Tolerance",
    "assert_cell",
    "assert_close",
    "assert_close_to_oracle",
    "assert_gradients",
    "assert_invariant",
    "assert_sequence_invariant",
    "assert_traces",
    "compiled_ops",
    "count_host_transfers",
    "forbid_host_transfers",
    "layer_checks",
    "record_compilations",
    "record_traces",
    "tolerance",
]
