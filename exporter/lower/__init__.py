"""Makes graphs of lower precision from the fp32 graph."""
