"""From scores to a circuit."""
