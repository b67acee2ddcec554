"""Deploy a new version to a fleet behind Nginx without a single user noticing, and prove it."""

__version__ = "0.1.0"
