"""Training: from feature archives to a verified bundle, by torchrun here or a TrainJob there.

Importing this package loads no torch; the workers do.
"""

from hearloop.training.launcher import Launcher, TorchrunLauncher, train
from hearloop.training.request import Candidate, FeatureSet, TrainingSummary
from hearloop.training.trainjob import TrainJobLauncher

__all__ = [
    "Candidate",
    "FeatureSet",
    "Launcher",
    "TorchrunLauncher",
    "TrainJobLauncher",
    "TrainingSummary",
    "train",
]
