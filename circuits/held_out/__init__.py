"""The commands `evaluate` and `compare`: circuits on prompts that they were not found on."""
