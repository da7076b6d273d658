"""The tutorial's networks as Flax NNX modules that map inputs to logits."""

from jaxnn.models.cifar10 import Cifar10Net
from jaxnn.models.lenet import LeNet, LeNet5
from jaxnn.models.mlp import MLP

__all__ = ["MLP", "Cifar10Net", "LeNet", "LeNet5"]
