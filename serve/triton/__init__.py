"""Model repositories of Triton: a bundle in a folder that the server starts as it is."""
