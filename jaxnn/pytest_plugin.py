"""The plugin of pytest that runs each check of `testing.layer_checks` as one test.

pytest imports it at every start where the package is installed, so it imports nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest


def pytest_generate_tests(metafunc: "pytest.Metafunc") -> None:
    """Gives a test that `testing.layer_checks` made one id for each property and dtype."""
    if "layer_check" in metafunc.fixturenames:
        checks = getattr(metafunc.function, "layer_checks", {})
        metafunc.parametrize("layer_check", list(checks.values()), ids=list(checks))
