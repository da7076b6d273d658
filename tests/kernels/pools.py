"""Windows that between them take every path of the pooling kernels."""

from jaxnn.kernels.geometry import Window


def _window(size, stride=None, padding=None, dilation=None):
    n = len(size)
    return Window(size, stride or size, padding or ((0, 0),) * n, dilation or (1,) * n)


# name: spatial size, window
POOLS = {
    "tiles": ((4, 6), _window((2, 3))),
    "tiles and a rest": ((5, 7), _window((2, 2))),
    "large tiles and a rest": ((9, 5), _window((4, 4))),
    "overlapping, padded": ((5, 6), _window((3, 2), (1, 1), ((1, 1), (1, 0)))),
    "strides that skip": ((9, 7), _window((2, 1), (4, 3))),
    "1d": ((9,), _window((3,), (2,), ((2, 0),))),
    "3d": ((4, 3, 4), _window((2, 3, 2), (2, 1, 2), ((0, 0), (1, 1), (0, 1)))),
    "more taps than are taken one by one": ((15, 14), _window((12, 11), (3, 1), ((0, 0), (2, 1)))),
    "one window over all": ((12, 12), _window((12, 12))),
}
DILATED = {
    "dilated": ((8, 7), _window((3, 2), (2, 1), ((1, 2), (0, 1)), (2, 3))),
    "dilated, stride 1": ((8,), _window((3,), (1,), ((1, 3),), (2,))),
    "dilated tiles": ((8,), _window((2,), (2,), None, (3,))),
}
