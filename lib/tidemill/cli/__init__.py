"""The command line: thin verbs over :class:`tidemill.Engine`. No verb loads Spark before it must."""
