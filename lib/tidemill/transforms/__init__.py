"""Transforms: a pipeline's own code, run the same way on streams and on batches."""
