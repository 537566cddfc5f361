"""The model code of the course: every module holds one concept and imports only from those above it.

From raw data to results: images, labels, batch, transforms, scenes, readers, downloads, datasets, encoders,
features, losses, decoders, search, metrics, thresholds, training, systems. See `docs/` for the map.
"""
