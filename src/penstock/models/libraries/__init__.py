"""The libraries that models are made with, behind one face."""

from penstock.models.libraries.predictor import LABEL, PREDICTION, PROBABILITIES, Predictor, Rows
from penstock.models.libraries.wrap import wrap_model

__all__ = ["LABEL", "PREDICTION", "PROBABILITIES", "Predictor", "Rows", "wrap_model"]
