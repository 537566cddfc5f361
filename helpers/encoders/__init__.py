"""Images to `Features`: backbones, the small CNN of the course, crops, the feature cache."""
