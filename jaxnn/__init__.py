"""Convolution, pooling, dense and recurrent layers as pure JAX functions, with Flax modules and compiled training.

Sub-packages are imported by name, so that nobody pays for what they do not use::

    from jaxnn import functional as F   # arrays in, arrays out: no Flax, no state
    from jaxnn import modules           # Flax NNX modules that own the parameters
    from jaxnn import models, train, data, testing
"""

__version__ = "0.1.0"
