"""`tubelet tune`: everything that is installed, in turn, and the choice for this machine."""
