"""Runs bundles: numpy, PyAV and an engine, never torch. Its public names are those of `tubelet`."""
