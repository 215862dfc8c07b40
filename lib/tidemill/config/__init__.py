"""Configuration: YAML and environment to the model. Errors name file and line."""

from __future__ import annotations

from tidemill.config.fingerprint import fingerprint
from tidemill.config.project import Project, find_root, json_schema, load_project, parse_pipeline

__all__ = ["Project", "find_root", "fingerprint", "json_schema", "load_project", "parse_pipeline"]
