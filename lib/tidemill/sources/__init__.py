"""Sources: each is read live, as a stream, and as history up to an exact pin."""
