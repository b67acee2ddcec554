"""What the reader sees. Every view is made from the one stream of events, or from plain values."""

from rolling_deploy.report.viewer import Viewer, viewer

__all__ = ["Viewer", "viewer"]
