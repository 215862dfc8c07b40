"""How values look, in a notebook and in words: pure functions from what the engine reports to markup and text.

Nothing here computes anything of a pipeline, loads Spark, or needs a script or an address outside the page.
"""
