"""The command line: `python -m helpers train | evaluate | predict | check | notebooks | scenes`."""
