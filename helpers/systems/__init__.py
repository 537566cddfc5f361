"""Encoder, decoder and objective put together, and the registry of their names."""
