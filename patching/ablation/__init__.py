"""What an activation is replaced by, and runs in which some are."""
