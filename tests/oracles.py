"""What every layer must compute, in NumPy and float64, written naively: loops, as the formulas stand."""

import itertools
import math

import numpy as np

NUMPY_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


# Geometry of windows: everything is a tuple with one entry per spatial axis.


def per_axis(value, axes):
    return (value,) * axes if isinstance(value, int) else tuple(value)


def span(window, dilation):
    """From a window's first tap to its last, both counted."""
    return (window - 1) * dilation + 1


def pads(padding, size, window, stride, dilation):
    """(low, high) per spatial axis."""
    axes = len(size)
    if isinstance(padding, int):
        return ((padding, padding),) * axes
    if not isinstance(padding, str):
        return tuple((low, high) for low, high in padding)
    result = []
    for n, k, s, d in zip(size, window, stride, dilation, strict=True):
        total = max((math.ceil(n / s) - 1) * s + span(k, d) - n, 0)
        result.append(
            {
                "VALID": (0, 0),
                "SAME": (total // 2, total - total // 2),
                "SAME_LOWER": (total - total // 2, total // 2),
                "CAUSAL": (span(k, d) - 1, 0),
            }[padding]
        )
    return tuple(result)


def output_size(n, window, stride, dilation, low, high, ceil_mode=False):
    extent = n + low + high - span(window, dilation)
    if not ceil_mode:
        return extent // stride + 1
    count = math.ceil(extent / stride) + 1
    # The last window must start inside the input or the low padding.
    return count - 1 if (count - 1) * stride >= n + low else count


def positions(shape):
    return itertools.product(*(range(n) for n in shape))


def over_batch(function, x, *rest, unbatched):
    """Applies a function of one example, of ``unbatched`` axes, to every example of ``x``."""
    batch = x.shape[: x.ndim - unbatched]
    results = [function(x[i], *rest) for i in positions(batch)]
    if not results:  # an empty batch still has a shape
        sample = function(np.zeros(x.shape[x.ndim - unbatched :]), *rest)
        return np.zeros(batch + sample.shape)
    return np.stack(results).reshape(batch + results[0].shape)


# Convolution


def conv(x, kernel, bias=None, *, stride=1, padding="SAME", pad_mode="zeros", dilation=1, groups=1):
    axes = kernel.ndim - 2
    window = kernel.shape[:axes]
    stride, dilation = per_axis(stride, axes), per_axis(dilation, axes)

    def one(x):
        size = x.shape[:axes]
        low_high = pads(padding, size, window, stride, dilation)
        padded = np.pad(x, (*low_high, (0, 0)), mode=NUMPY_PAD_MODES[pad_mode])
        out = tuple(
            output_size(n, k, s, d, *p) for n, k, s, d, p in zip(size, window, stride, dilation, low_high, strict=True)
        )
        per_group_in, per_group_out = kernel.shape[-2], kernel.shape[-1] // groups
        y = np.zeros((*out, kernel.shape[-1]))
        for p in positions(out):
            for t in positions(window):
                at = tuple(pi * s + ti * d for pi, s, ti, d in zip(p, stride, t, dilation, strict=True))
                for o in range(kernel.shape[-1]):
                    group = o // per_group_out
                    for i in range(per_group_in):
                        y[(*p, o)] += padded[(*at, group * per_group_in + i)] * kernel[(*t, i, o)]
        return y if bias is None else y + bias

    return over_batch(one, x, unbatched=axes + 1)


def conv_transpose(x, kernel, bias=None, *, stride=1, padding="SAME", output_padding=0, dilation=1, groups=1):
    """Every input element adds its multiple of the kernel to the output; then the output is cropped."""
    axes = kernel.ndim - 2
    window = kernel.shape[:axes]
    stride, dilation = per_axis(stride, axes), per_axis(dilation, axes)
    extra = per_axis(output_padding, axes)

    def one(x):
        size = x.shape[:axes]
        out, first = [], []
        for axis, (n, k, s, d) in enumerate(zip(size, window, stride, dilation, strict=True)):
            full = (n - 1) * s + span(k, d)
            overlap = max(span(k, d) - s, 0)
            if padding in ("SAME", "SAME_LOWER", "CAUSAL"):
                low = {"SAME": overlap // 2, "SAME_LOWER": overlap - overlap // 2, "CAUSAL": 0}[padding]
                length = n * s
            else:
                low, high = pads(padding, size, window, stride, dilation)[axis]
                length = full - low - high
            out.append(length + extra[axis])
            first.append(low)
        per_group_in, per_group_out = kernel.shape[-2] // groups, kernel.shape[-1]
        y = np.zeros((*out, per_group_out * groups))
        for p in positions(size):
            for t in positions(window):
                at = tuple(
                    pi * s + ti * d - low for pi, s, ti, d, low in zip(p, stride, t, dilation, first, strict=True)
                )
                if not all(0 <= a < n for a, n in zip(at, out, strict=True)):
                    continue
                for i in range(kernel.shape[-2]):
                    group = i // per_group_in
                    for o in range(per_group_out):
                        y[(*at, group * per_group_out + o)] += x[(*p, i)] * kernel[(*t, i, o)]
        return y if bias is None else y + bias

    return over_batch(one, x, unbatched=axes + 1)


def dense(x, kernel, bias=None):
    y = np.zeros((*x.shape[:-1], kernel.shape[1]))
    for b in positions(x.shape[:-1]):
        for o in range(kernel.shape[1]):
            y[(*b, o)] = sum(x[(*b, i)] * kernel[i, o] for i in range(kernel.shape[0]))
    return y if bias is None else y + bias


# Pooling


def windows(size, window, stride, padding, dilation, ceil_mode):
    """Output size, and for an output position its taps: (index, inside the input, inside the padded one)."""
    low_high = pads(padding, size, window, stride, dilation)
    out = tuple(
        output_size(n, k, s, d, *p, ceil_mode)
        for n, k, s, d, p in zip(size, window, stride, dilation, low_high, strict=True)
    )

    def taps(p):
        for t in positions(window):
            at = tuple(
                pi * s + ti * d - low for pi, s, ti, d, (low, _) in zip(p, stride, t, dilation, low_high, strict=True)
            )
            in_input = all(0 <= a < n for a, n in zip(at, size, strict=True))
            # Beyond the padding lies what a window may overhang in ceil mode.
            in_padded = all(-low <= a < n + high for a, n, (low, high) in zip(at, size, low_high, strict=True))
            yield at, in_input, in_padded

    return out, taps


def pool(x, window, reduce_window, *, stride=None, padding="VALID", dilation=1, ceil_mode=False):
    """``reduce_window(values inside the input, number of taps inside the padded one)`` for every window."""
    axes = len(window)
    stride = per_axis(window if stride is None else stride, axes)
    dilation = per_axis(dilation, axes)

    def one(x):
        out, taps = windows(x.shape[:axes], window, stride, padding, dilation, ceil_mode)
        y = np.zeros((*out, x.shape[-1]))
        for p in positions(out):
            values = [x[at] for at, in_input, _ in taps(p) if in_input]
            padded = sum(in_padded for _, _, in_padded in taps(p))
            for c in range(x.shape[-1]):
                y[(*p, c)] = reduce_window([value[c] for value in values], padded)
        return y

    return over_batch(one, x, unbatched=axes + 1)


def max_pool(x, window, **options):
    return pool(x, window, lambda values, _: max(values, default=-np.inf), **options)


def avg_pool(x, window, *, count_include_pad=False, **options):
    def mean(values, padded):
        return sum(values) / max(1, padded if count_include_pad else len(values))

    return pool(x, window, mean, **options)


def lp_pool(x, window, *, p=2, **options):
    return pool(x, window, lambda values, _: sum(abs(v) ** p for v in values) ** (1 / p), **options)


def max_pool_gradient(x, cotangent, window, *, stride=None, padding="VALID", dilation=1, ceil_mode=False):
    """Gradient of ``sum(cotangent * max_pool(x))``: the first of equal maxima, row by row, gets it."""
    axes = len(window)
    stride = per_axis(window if stride is None else stride, axes)
    dilation = per_axis(dilation, axes)

    def one(both):
        x, cotangent = both
        out, taps = windows(x.shape[:axes], window, stride, padding, dilation, ceil_mode)
        gradient = np.zeros(x.shape)
        for p in positions(out):
            for c in range(x.shape[-1]):
                inside = [at for at, in_input, _ in taps(p) if in_input]
                winner = max(inside, key=lambda at, c=c: x[(*at, c)])  # Python's max returns the first
                gradient[(*winner, c)] += cotangent[(*p, c)]
        return gradient

    batch = x.shape[: x.ndim - axes - 1]
    results = [one((x[i], cotangent[i])) for i in positions(batch)]
    return np.stack(results).reshape(x.shape) if results else np.zeros(x.shape)


def global_max_pool(x, spatial=2):
    return pool(x, x.shape[-1 - spatial : -1], lambda values, _: max(values)).reshape(
        x.shape[: -1 - spatial] + x.shape[-1:]
    )


def global_avg_pool(x, spatial=2):
    return pool(x, x.shape[-1 - spatial : -1], lambda values, _: sum(values) / len(values)).reshape(
        x.shape[: -1 - spatial] + x.shape[-1:]
    )


def adaptive_pool(x, output, reduce_window):
    """Output i averages the inputs from floor(i n / out) up to ceil((i + 1) n / out)."""
    axes = len(output)

    def one(x):
        y = np.zeros((*output, x.shape[-1]))
        for p in positions(output):
            region = tuple(
                slice(i * n // out, math.ceil((i + 1) * n / out))
                for i, n, out in zip(p, x.shape[:axes], output, strict=True)
            )
            for c in range(x.shape[-1]):
                y[(*p, c)] = reduce_window(x[(*region, c)].ravel().tolist())
        return y

    return over_batch(one, x, unbatched=axes + 1)


def adaptive_avg_pool(x, output):
    return adaptive_pool(x, output, lambda values: sum(values) / len(values))


def adaptive_max_pool(x, output):
    return adaptive_pool(x, output, max)
