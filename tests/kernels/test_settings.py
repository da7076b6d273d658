"""Which library the convolutions that are traced here go to."""

import jax
import jax.numpy as jnp
import pytest

from jaxnn.kernels import settings

OPTION = "--xla_cpu_experimental_ynn_fusion_type="


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", False),
        ("--xla_cpu_multi_thread_eigen=false", False),
        (f"{OPTION}-individual_convolution", True),
        (f"{OPTION}+reduce,-individual_convolution --xla_cpu_multi_thread_eigen=false", True),
        (f"{OPTION}-individual_dot", False),
        (f"{OPTION}+reduce", False),
        (f"{OPTION}individual_dot,individual_convolution", False),
        (f"{OPTION}INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE", True),
        (OPTION, True),
        (f"{OPTION} --xla_cpu_multi_thread_eigen=false", True),
        (f"{OPTION}-individual_convolution {OPTION}individual_convolution", False),
    ],
)
def test_the_environment_says_which_library_convolutions_go_to(flags, expected, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert settings.convolutions_by_eigen() is expected


def test_a_compiler_says_it_for_what_it_traces(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"{OPTION}-individual_convolution")
    told = jax.jit(lambda x: x + float(settings.convolutions_by_eigen()))
    with settings.eigen_context(False):
        assert told(jnp.float32(0)) == 0
    assert told(jnp.float32(0)) == 1
    monkeypatch.setenv("XLA_FLAGS", "")
    with settings.eigen_context(True):
        assert told(jnp.float32(0)) == 1
