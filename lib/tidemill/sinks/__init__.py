"""Sinks: stage files with Spark, publish them with one log commit."""
