"""Where plans meet Spark: the session, the jars it needs, and what runs in it."""
