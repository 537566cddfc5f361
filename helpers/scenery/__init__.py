"""The rooms behind `helpers.scenes`: the model that decides what is in a scene, and the artwork that draws it."""
