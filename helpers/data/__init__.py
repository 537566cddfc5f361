"""Files to records to batches: images, annotations, labels, words, downloads."""
