"""What is written is there whole or not at all, whoever else writes."""
