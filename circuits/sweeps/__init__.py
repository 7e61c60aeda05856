"""Many discoveries at once: models x tasks x methods x seeds, a run folder each, one table."""
