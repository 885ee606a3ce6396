"""The bundle on disk: its manifest, files, reference and engines."""
