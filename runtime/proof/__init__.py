"""Compares what a backend computes with what torch answered."""
