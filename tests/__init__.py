"""The tests; a package, so that no folder of this name among what is installed stands in for it."""
