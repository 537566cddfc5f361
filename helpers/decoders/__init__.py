"""`Features` to a sequence of labels: the step interface, the decoders, the searches."""
