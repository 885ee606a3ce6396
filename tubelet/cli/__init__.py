"""The command line: the tree, and one file a command."""
