"""Edits of a model: named, reversible, written to plans, saved as models."""
