"""Pictures of what a model looked at and what it drew."""
