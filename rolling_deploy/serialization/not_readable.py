"""The one way in which bytes that somebody else wrote are refused here."""

from __future__ import annotations


class NotReadable(ValueError):
    """The bytes are not what they should be: broken, cut off, hostile, or of a form not known here.

    Whatever the bytes are, the readers of this package raise nothing else.
    """
