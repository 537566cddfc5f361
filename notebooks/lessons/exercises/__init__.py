"""Checks of the exercises, with the wrong answers that they recognise. One file per notebook."""
