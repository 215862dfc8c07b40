"""Leaves out what Spark's own Python worker says of itself when a query with custom state begins: five lines, none of them news.

It prints them (``pyspark.sql.streaming.transform_with_state_driver_worker``) whatever the log's level, and the JVM passes them on
to its stderr among all else that workers say there. So they are known by their words, and all else goes through as it comes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pyspark.sql import SparkSession

_DONE = "tidemill.quiet"

# A class body for the compiler that Spark brings along. Each thread that passes a worker's words on has a line of its own; of
# what has no end yet that is held back which may be the beginning of theirs. An empty line comes after each of theirs.
_FILTER = r"""
private static final String THEIRS = "Streaming TransformWithStateInPandas Python worker";
private final java.io.PrintStream through = System.err;
private final ThreadLocal lines = new ThreadLocal(), after = new ThreadLocal();

private static boolean begins(String line, String with) {
    return line.startsWith(with) || with.startsWith(line);
}

private java.io.ByteArrayOutputStream line() {
    if (lines.get() == null) lines.set(new java.io.ByteArrayOutputStream());
    return (java.io.ByteArrayOutputStream) lines.get();
}

private void pass(boolean ended) throws java.io.IOException {
    java.io.ByteArrayOutputStream line = line();
    String said = line.toString("ISO-8859-1");
    boolean theirs = begins(said, THEIRS) || begins(said, "Starting " + THEIRS);
    if (!ended && (theirs || said.length() == 0)) return;
    if (!theirs && !(after.get() != null && said.equals("\n"))) line.writeTo(through);
    after.set(theirs ? this : null);
    line.reset();
}

public void write(int b) throws java.io.IOException {
    line().write(b);
    if (b == '\n') pass(true);
}

public void write(byte[] bytes, int from, int count) throws java.io.IOException {
    for (int i = from; i < from + count; i++) write(bytes[i]);
}

public void flush() throws java.io.IOException {
    pass(false);
    through.flush();
}
"""


def quiet(spark: SparkSession) -> None:
    """Have the session's JVM leave those lines out from now on; once is enough, and more does nothing."""
    jvm: Any = spark._jvm  # noqa: SLF001  Spark has no Python API for what its JVM prints
    system = jvm.java.lang.System
    if system.getProperty(_DONE) is not None:
        return
    # Only cosmetics: a Spark that brings no such compiler, or hides it, says its lines.
    with suppress(Exception):
        body = jvm.org.codehaus.janino.ClassBodyEvaluator()
        body.setExtendedClass(jvm.java.lang.Class.forName("java.io.OutputStream"))
        said = body.createInstance(jvm.java.io.StringReader(_FILTER))
        # Log4j has taken the stream as it was before.
        system.setErr(jvm.java.io.PrintStream(said, True))
        system.setProperty(_DONE, "")
