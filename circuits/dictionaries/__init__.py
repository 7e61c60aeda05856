"""Sparse dictionaries from the command line and from Python: trained, checked, looked into."""
