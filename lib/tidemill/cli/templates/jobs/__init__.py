"""The transforms of this project."""
