"""Recurrent layers in NumPy float64, written as the formulas stand: one sequence, one gate, one step at a time."""

import numpy as np

from tests import oracles


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def layer_norm(a):
    return (a - a.mean()) / np.sqrt(a.var() + 1e-5)


def dense(w_h, gates):
    """The recurrent weights of heads as one matrix, with zeros between one head's rows and another's columns."""
    if w_h.ndim == 2:
        return w_h
    heads, rows, width = w_h.shape
    columns = width // gates
    whole = np.zeros((heads * rows, heads * width))
    for gate in range(gates):
        for head in range(heads):
            to = (gate * heads + head) * columns
            of_head = w_h[head][:, gate * columns : (gate + 1) * columns]
            whole[head * rows : (head + 1) * rows, to : to + columns] = of_head
    return whole


def rnn_step(p, state, x, activation=np.tanh):
    (h,) = state
    return (activation(x @ p.w_x + h @ p.w_h + p.b),)


def gru_step(p, state, x, reset_after=True, activation=np.tanh, gate=sigmoid):
    (h,) = state
    w_xr, w_xz, w_xn = np.split(p.w_x, 3, axis=1)
    w_hr, w_hz, w_hn = np.split(dense(p.w_h, 3), 3, axis=1)
    b_r, b_z, b_n = np.split(p.b, 3)
    r = gate(x @ w_xr + h @ w_hr + b_r)
    z = gate(x @ w_xz + h @ w_hz + b_z)
    if reset_after:
        n = activation(x @ w_xn + b_n + r * (h @ w_hn + p.b_hn))
    else:
        n = activation(x @ w_xn + b_n + (r * h) @ w_hn + p.b_hn)
    return ((1 - z) * n + z * h,)


def lstm_step(p, state, x, activation=np.tanh, gate=sigmoid):
    h, c = state
    of_x, of_h = x @ p.w_x, h @ dense(p.w_h, len(p.b) // len(c))
    if p.norm is not None:
        of_x, of_h = layer_norm(of_x) * p.norm.x, layer_norm(of_h) * p.norm.h
    pre = of_x + of_h + p.b
    hidden = c.shape[0]
    p_i = p_f = p_o = np.zeros(hidden)
    if len(pre) == 4 * hidden:
        a_i, a_f, a_g, a_o = np.split(pre, 4)
        if p.peephole is not None:
            p_i, p_f, p_o = p.peephole
        i = gate(a_i + p_i * c)
        f = gate(a_f + p_f * c)
    else:
        a_f, a_g, a_o = np.split(pre, 3)
        if p.peephole is not None:
            p_f, p_o = p.peephole
        f = gate(a_f + p_f * c)
        i = 1 - f
    new_c = f * c + i * activation(a_g)
    o = gate(a_o + p_o * new_c)
    seen = new_c if p.norm is None else layer_norm(new_c) * p.norm.c + p.norm.c_shift
    new_h = o * activation(seen)
    if p.projection is not None:
        new_h = new_h @ p.projection
    return new_h, new_c


def mingru_step(p, state, x, log_space=False):
    (h,) = state
    w_z, w_h = np.split(p.w_x, 2, axis=1)
    b_z, b_h = np.split(p.b, 2)
    z = sigmoid(x @ w_z + b_z)
    return ((1 - z) * h + z * candidate(x @ w_h + b_h, log_space),)


def minlstm_step(p, state, x, log_space=False):
    (h,) = state
    w_i, w_f, w_g = np.split(p.w_x, 3, axis=1)
    b_i, b_f, b_g = np.split(p.b, 3)
    i, f = sigmoid(x @ w_i + b_i), sigmoid(x @ w_f + b_f)
    return (f / (f + i) * h + i / (f + i) * candidate(x @ w_g + b_g, log_space),)


def candidate(a, log_space):
    return np.where(a >= 0, a + 0.5, sigmoid(a)) if log_space else a


def lru_step(p, state, x):
    h, _ = state
    eigenvalues = np.exp(-np.exp(p.nu_log) + 1j * np.exp(p.theta_log))
    b_re, b_im = np.split(p.b, 2, axis=1)
    return eigenvalues * h + np.exp(p.gamma_log) * (x @ (b_re + 1j * b_im)), x


def lru_output(p, state):
    h, x = state
    c_re, c_im = np.split(p.c, 2)
    return (h @ (c_re + 1j * c_im)).real + x @ p.d


def output(step, p, state):
    """The output after a step: the first part of the state, for all layers but one."""
    return lru_output(p, state) if step is lru_step else state[0]


def slstm_step(p, state, x, forget_gate="sigmoid"):
    """The paper's formula before it is stabilised; only the state is divided by exp(m) before and after."""
    h, c, n, m = state
    i, f, z, o = np.split(x @ p.w_x + h @ dense(p.w_h, 4) + p.b, 4)
    f = {"sigmoid": sigmoid, "exp": np.exp}[forget_gate](f)
    c, n = c * np.exp(m), n * np.exp(m)
    m = np.where(n == 0, i, np.maximum(np.log(f) + m, i))
    c = f * c + np.exp(i) * np.tanh(z)
    n = f * n + np.exp(i)
    return sigmoid(o) * c / n, c / np.exp(m), n / np.exp(m), m


def conv_lstm_step(p, state, x, pad_mode="zeros", activation=np.tanh, gate=sigmoid, **options):
    h, c = state
    of_x = oracles.conv(x, p.w_x, p.b, pad_mode=pad_mode, **options)
    i, f, g, o = np.split(of_x + oracles.conv(h, p.w_h, pad_mode=pad_mode), 4, axis=-1)
    p_i, p_f, p_o = np.zeros((3, *c.shape)) if p.peephole is None else p.peephole
    new_c = gate(f + p_f * c) * c + gate(i + p_i * c) * activation(g)
    return gate(o + p_o * new_c) * activation(new_c), new_c


def sequence(
    step, p, x, state, *, length=None, mask=None, resets=None, restart=None, reverse=False, output=output, **options
):
    """One sequence `(time, *features)`, one step after the other. A reset at `t` cuts between `t - 1` and `t`."""
    y = np.zeros((len(x), *output(step, p, state).shape))
    length = len(x) if length is None else min(length, len(x))
    restart = tuple(np.zeros_like(s) for s in state) if restart is None else restart
    for t in reversed(range(length)) if reverse else range(length):
        cut = t + 1 if reverse else t
        if resets is not None and cut < length and resets[cut]:
            state = restart
        if mask is None or mask[t]:
            state = step(p, state, x[t], **options)
            y[t] = output(step, p, state)
    return y, state


def batch(step, p, x, state, *, lengths=None, mask=None, resets=None, feature_axes=1, output=output, **options):
    """Any batch axes, one sequence after the other."""
    axes = x.ndim - 1 - feature_axes
    lead, time = x.shape[:axes], x.shape[axes]
    one = tuple(np.zeros(s.shape[axes:], s.dtype) for s in state)
    y = np.zeros((*lead, time, *output(step, p, one).shape))
    final = tuple(np.zeros_like(s) for s in state)
    for n in np.ndindex(*lead):
        given = {"length": lengths, "mask": mask, "resets": resets}
        given = {name: None if array is None else array[n] for name, array in given.items()}
        y[n], last = sequence(step, p, x[n], tuple(s[n] for s in state), output=output, **given, **options)
        for whole, part in zip(final, last, strict=True):
            whole[n] = part
    return y, final


def attention(query, keys, values):
    """Scaled dot-product attention, one query at a time."""
    context, weights = np.zeros((*query.shape[:-1], values.shape[-1])), np.zeros((*query.shape[:-1], keys.shape[-2]))
    for n in np.ndindex(*query.shape[:-1]):
        scores = np.array([query[n] @ key for key in keys[n[:-1]]]) / np.sqrt(max(1, query.shape[-1]))
        weights[n] = np.exp(scores) / np.exp(scores).sum()
        context[n] = sum(w * value for w, value in zip(weights[n], values[n[:-1]], strict=True))
    return context, weights
