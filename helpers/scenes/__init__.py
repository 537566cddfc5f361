"""The drawn dataset: what is in a scene, where it stands, how it is drawn, written and described."""
