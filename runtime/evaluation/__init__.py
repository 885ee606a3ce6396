"""How often a bundle is right on a labelled set: to hold it against a published number."""
