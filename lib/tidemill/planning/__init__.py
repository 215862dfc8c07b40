"""Planning: values in, plans out. Nothing here reads a file or knows Spark."""
