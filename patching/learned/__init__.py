"""Learned rankings: one score vector trained so that every size of circuit does the task."""
