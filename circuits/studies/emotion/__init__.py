"""Emotion circuits: directions, components, influence, control."""
