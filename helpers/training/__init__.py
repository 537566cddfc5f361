"""Fitting, checkpoints, options, reports and whole runs."""
