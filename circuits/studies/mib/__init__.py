"""The circuit track of the MIB benchmark on any model: its tasks, its protocol, its files."""
