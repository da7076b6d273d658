"""Values and all gradients against PyTorch: every layer, directions, projections, packed lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as R

from .common import assert_close

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests and is not installed")

LAYERS, FEATURES, HIDDEN, BATCH, TIME = 2, 3, 4, 3, 6

SETTINGS = {
    "rnn-tanh": (torch.nn.RNN, {}, R.rnn, {}),
    "rnn-relu": (torch.nn.RNN, {"nonlinearity": "relu"}, R.rnn, {"activation": jax.nn.relu}),
    "gru": (torch.nn.GRU, {}, R.gru, {}),
    "lstm": (torch.nn.LSTM, {}, R.lstm, {}),
    "lstm-projection": (torch.nn.LSTM, {"proj_size": 2}, R.lstm, {}),
}


def _params(module, layer, suffix):
    """Our parameters of one PyTorch layer and direction."""
    w_x, w_h, b_x, b_h = (
        jnp.asarray(getattr(module, f"{n}_l{layer}{suffix}").detach().numpy())
        for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    w_x, w_h = w_x.T, w_h.T
    if isinstance(module, torch.nn.GRU):
        candidate = 2 * HIDDEN
        return R.GRUParams(w_x, w_h, b_x.at[:candidate].add(b_h[:candidate]), b_h[candidate:])
    if isinstance(module, torch.nn.LSTM):
        projection = None
        if module.proj_size:
            projection = jnp.asarray(getattr(module, f"weight_hr_l{layer}{suffix}").detach().numpy()).T
        return R.LSTMParams(w_x, w_h, b_x + b_h, projection=projection)
    return R.RNNParams(w_x, w_h, b_x + b_h)


def _gradients(module, layer, suffix):
    """PyTorch's gradients in the shape of our parameters."""

    def grad(name):
        return jnp.asarray(getattr(module, f"{name}_l{layer}{suffix}").grad.numpy())

    w_x, w_h, b = grad("weight_ih").T, grad("weight_hh").T, grad("bias_ih")
    if isinstance(module, torch.nn.GRU):
        return R.GRUParams(w_x, w_h, b, grad("bias_hh")[2 * HIDDEN :])
    if isinstance(module, torch.nn.LSTM):
        return R.LSTMParams(w_x, w_h, b, projection=grad("weight_hr").T if module.proj_size else None)
    return R.RNNParams(w_x, w_h, b)


def _gather(module, of):
    if not module.bidirectional:
        return [of(module, n, "") for n in range(LAYERS)]
    return [R.Directions(of(module, n, ""), of(module, n, "_reverse")) for n in range(LAYERS)]


def _stack_states(states):
    """Our states as PyTorch stacks them: layer after layer, forward before backward."""
    flat = [s for state in states for s in (state if isinstance(state, R.Directions) else (state,))]
    return [jnp.stack(parts) for parts in zip(*flat, strict=True)]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    ("both_ways", "lengths"), [(False, None), (True, (6, 3, 1))], ids=["plain", "both ways, lengths"]
)
@pytest.mark.parametrize("name", SETTINGS)
def test_stack_agrees_with_pytorch(name, both_ways, lengths):
    kind, torch_options, layer, options = SETTINGS[name]
    torch.manual_seed(0)
    module = kind(FEATURES, HIDDEN, LAYERS, batch_first=True, bidirectional=both_ways, **torch_options)
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.5)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)
    output = torch_options.get("proj_size", HIDDEN)
    sizes = (output, HIDDEN) if kind is torch.nn.LSTM else (HIDDEN,)
    starts = [rng.normal(size=(LAYERS * (1 + both_ways), BATCH, s)).astype(np.float32) for s in sizes]

    x_t, starts_t = torch.tensor(x, requires_grad=True), [torch.tensor(s, requires_grad=True) for s in starts]
    given = x_t
    if lengths is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(x_t, torch.tensor(lengths), batch_first=True)
    y_t, final_t = module(given, tuple(starts_t) if len(starts_t) > 1 else starts_t[0])
    if lengths is not None:
        y_t, _ = torch.nn.utils.rnn.pad_packed_sequence(y_t, batch_first=True, total_length=TIME)
    final_t = final_t if isinstance(final_t, tuple) else (final_t,)
    sum(torch.sin(a).sum() for a in (y_t, *final_t)).backward()

    state_type = {torch.nn.RNN: R.RNNState, torch.nn.GRU: R.GRUState, torch.nn.LSTM: R.LSTMState}[kind]

    def loss(params, x, starts):
        states = [state_type(*parts) for parts in zip(*starts, strict=True)]
        if both_ways:
            states = [R.Directions(*states[n : n + 2]) for n in range(0, len(states), 2)]
        of_lengths = None if lengths is None else jnp.array(lengths)
        y, finals = R.stack(layer, params, x, states, lengths=of_lengths, **options)
        finals = _stack_states(finals)
        return sum(jnp.sum(jnp.sin(a)) for a in (y, *finals)), (y, finals)

    params = _gather(module, _params)
    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (_, (y, finals)), (d_params, d_x, d_starts) = run(
        params, jnp.asarray(x), [list(map(jnp.asarray, s)) for s in starts]
    )
    assert_close(y, y_t.detach().numpy())
    assert_close(finals, [a.detach().numpy() for a in final_t])
    assert_close(d_params, _gather(module, _gradients), 1e-4, 1e-4)
    assert_close(d_x, x_t.grad.numpy(), 1e-4, 1e-4)
    assert_close([jnp.stack(d) for d in d_starts], [s.grad.numpy() for s in starts_t], 1e-4, 1e-4)
