"""Carries bundles to the people who use them: Triton, an HTTP server and its page, archives on many machines."""
