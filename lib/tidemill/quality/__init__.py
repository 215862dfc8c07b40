"""Expectations as native column expressions, evaluated in the write itself."""
