"""Entry points for spark-submit, and one module of transforms per example domain."""
