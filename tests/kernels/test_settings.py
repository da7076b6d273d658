"""Which library the convolutions that are traced here go to."""

import jax
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
    """Traced, not compiled: XLA would keep the flags that it reads here."""
    monkeypatch.setenv("XLA_FLAGS", f"{OPTION}-individual_convolution")
    told = []
    layer = jax.jit(lambda x: told.append(settings.convolutions_by_eigen()) or x)
    with settings.eigen_context(False):
        layer.trace(1.0)
    layer.trace(1.0)
    monkeypatch.setenv("XLA_FLAGS", "")
    with settings.eigen_context(True):
        layer.trace(1.0)
    assert told == [False, True, True]
