"""Reads checkpoints: a Hub id, folder or file to a model and all that its files say."""
