"""The algorithm "persistent": one GPU kernel for all time steps (`kernels.persistent`)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.cell import Cell, NotServedError
from jaxnn.functional.recurrent.served import check_uncut, fused_form, run_rows
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.kernels import recurrence
from jaxnn.kernels.geometry import known
from jaxnn.kernels.persistent import interpreted
from jaxnn.kernels.persistent import persistent as run_kernel
from jaxnn.kernels.walk import fits
from jaxnn.kernels.walk_gpu import lacking


def persistent(cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    """As `scan.scan`, for cells whose `fused` form has `walks`, in bfloat16 or float16 on an H100 or H200.

    The recurrent weights stay on the chip for all steps, so they must fit. Each tile of eight sequences has separate
    processors, so 1 and 100 sequences take about the same time. For gradients only the states are kept; the rest is
    recomputed for all steps at once. It supports `jax.grad` and `jax.vmap`, but not forward mode. The gates use the
    GPU's tanh instruction, whose error of about 5e-4 is that of half precision.

    References:
        Diamos et al., Persistent RNNs: stashing recurrent weights on-chip, 2016.
    """
    return run_rows(partial(run_kernel, _checked(cell, task), options.reverse), cell, task, options)


def _checked(cell: Cell, task: Task) -> recurrence.Cell:
    """Returns the kernels' cell; raises `NotServedError` if the algorithm does not serve."""
    kernel: recurrence.Cell = fused_form(cell, task)[0]
    if kernel.walks is None:
        raise NotServedError("no support for this cell (`walks` of its fused form)")
    if (missing := lacking()) is not None:
        raise NotServedError(f"no {missing} in JAX {jax.__version__}, which its kernel needs")
    if not interpreted.value:
        _check_device()
    if task.xs.dtype not in (jnp.bfloat16, jnp.float16):
        raise NotServedError(f"no support for {task.xs.dtype}, only for bfloat16 and float16")
    if not all(known(size) for size in task.xs.shape):
        raise NotServedError("no support for symbolic sizes")
    hidden = jax.tree.leaves(task.state)[0].shape[-1]
    if not fits(kernel.walks, hidden):
        raise NotServedError(f"no room on the chip for the recurrent weights of {hidden} units")
    check_uncut(task)
    return kernel


def _check_device() -> None:
    chosen = jax.config.jax_default_device  # type: ignore[attr-defined]
    device = jax.devices(chosen)[0] if chosen is None or isinstance(chosen, str) else chosen
    if getattr(device, "compute_capability", None) != "9.0":
        kind = getattr(device, "device_kind", device)
        raise NotServedError(f"no kernel for {kind}, only for GPUs of compute capability 9.0 (H100, H200)")
