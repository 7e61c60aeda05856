"""Sparse dictionaries of activations: values, files, training, and what latents carry."""
