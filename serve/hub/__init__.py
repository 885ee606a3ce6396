"""Carries bundles to the Hugging Face Hub and back: one commit, a card, and every checksum verified."""
