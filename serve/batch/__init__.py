"""Bundles in the engines that people label archives with: Ray Data, Daft, Spark."""
