"""Measures backends side by side, and draws the page."""
