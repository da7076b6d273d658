"""Convolution, pooling, dense and recurrent layers as pure JAX functions, with Flax modules and compiled training.

A sub-package is imported when it is first used, so that nobody pays for what they do not use::

    from jaxnn import functional as F   # arrays in, arrays out: no Flax, no state
    from jaxnn import modules           # Flax NNX modules that own the parameters
    from jaxnn import models, train, data, testing
    from jaxnn import cli               # command lines of scripts that train

`import jaxnn` alone is enough too: `jaxnn.functional` imports the sub-package, and `dir(jaxnn)` lists all of them.
"""

TYPE_CHECKING = False  # true for type checkers; `typing` itself takes longer to import than this file
if TYPE_CHECKING:
    from jaxnn import cli as cli
    from jaxnn import data as data
    from jaxnn import functional as functional
    from jaxnn import inspect as inspect
    from jaxnn import interop as interop
    from jaxnn import kernels as kernels
    from jaxnn import metrics as metrics
    from jaxnn import models as models
    from jaxnn import modules as modules
    from jaxnn import plots as plots
    from jaxnn import testing as testing
    from jaxnn import train as train

__all__ = [
    "cli",
    "data",
    "functional",
    "inspect",
    "interop",
    "kernels",
    "metrics",
    "models",
    "modules",
    "plots",
    "testing",
    "train",
]
__version__ = "0.1.0"
__distribution__ = "jaxnn-layers"  # `jaxnn.distribution` recognises the package by it

if not TYPE_CHECKING:  # type checkers see the names above only

    def __getattr__(name):
        if name in __all__:
            import importlib

            return importlib.import_module(f"jaxnn.{name}")
        raise AttributeError(f"module 'jaxnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*(name for name in globals() if name.startswith("__")), *__all__]
