"""Instruments: what a model does on prompt pairs, seen with one method each."""
