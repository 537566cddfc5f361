"""Tensors to numbers: label sets, thresholds, intervals, captions, localization."""
