"""An old name says where the new one is."""

import importlib
from functools import reduce

import pytest

import jaxnn
from jaxnn import train
from jaxnn.moved import MOVED

NAMES = [(package, name, new) for package, names in MOVED.items() for name, new in names.items()]


@pytest.mark.parametrize(("package", "name", "new"), NAMES)
def test_an_old_name_says_where_it_went(package, name, new):
    short = package.removeprefix("jaxnn.")
    with pytest.raises(AttributeError) as caught:
        getattr(importlib.import_module(package), name)
    assert str(caught.value) == f"{short}.{name}: moved; use {new}."
    assert reduce(getattr, new.split("."), jaxnn) is not None


def test_other_unknown_names_have_the_message_of_python():
    with pytest.raises(AttributeError, match=r"module 'jaxnn\.train' has no attribute 'clasification_loss'"):
        train.clasification_loss  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'clasification_loss'"):
        exec("from jaxnn.train import clasification_loss")
    assert not hasattr(train, "classification_loss")
    assert not hasattr(train.step, "LossFn")
