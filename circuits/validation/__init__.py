"""Every estimate beside the exact effect, and how far to trust it."""
