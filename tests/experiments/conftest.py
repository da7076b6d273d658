import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def _promotion_as_a_person_has_it():
    """The scripts run with JAX's own settings."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
