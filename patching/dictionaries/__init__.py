"""Sparse dictionaries of activations: their values, their files, how they are trained and checked."""
