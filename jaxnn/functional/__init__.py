"""The pure core: arrays in, arrays out; no Flax, no state. Arrays stand channels last, time before features."""

from jaxnn.functional.adaptive import adaptive_avg_pool, adaptive_max_pool
from jaxnn.functional.conv import conv, conv_transpose, true_convolution
from jaxnn.functional.dense import dense
from jaxnn.functional.pool import avg_pool, global_avg_pool, global_max_pool, lp_pool, max_pool
from jaxnn.functional.slide import feature_maps

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "conv",
    "conv_transpose",
    "dense",
    "feature_maps",
    "global_avg_pool",
    "global_max_pool",
    "lp_pool",
    "max_pool",
    "true_convolution",
]
