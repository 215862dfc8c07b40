"""Side-by-side benchmarks: what tidemill costs against the same work written by hand. ``python -m bench``."""
