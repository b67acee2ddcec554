"""The same stream for machines: one JSON object a line."""

from __future__ import annotations

import json
from typing import Any, TextIO

from rolling_deploy.ports import Awaiting, Checked, Event, Said, Written
from rolling_deploy.report.wording import event_text
from rolling_deploy.rollout.codec import to_plain


def event_object(event: Event) -> dict[str, Any]:
    """Answers the event as one JSON object; `event` names its kind, `at_ms` its time."""
    said = event_text(event)
    text = {"where": said[0], "text": said[1]} if said else {}
    match event:
        case Written():
            entry = event.entry
            fact = to_plain(entry.fact)
            kind = fact.pop("type").lower()
            fact.pop("frozen", None)  # the templates: long, and in the record for whoever asks
            return {
                "event": kind,
                "at_ms": entry.at_ms,
                "seq": entry.seq,
                "epoch": entry.epoch,
                "rollout": event.record.opened.rollout,
                **text,
                "fact": fact,
            }
        case Awaiting():
            more = {"until_ms": event.until_ms, "why": event.why}
            return {"event": "awaiting", "at_ms": event.at_ms, **more}
        case Checked():
            check = to_plain(event.check)
            check.pop("type")
            return {"event": "checked", "at_ms": event.at_ms, **check}
        case Said():
            return {"event": "said", "at_ms": event.at_ms, "text": event.text}


def one_line(value: object) -> str:
    """Answers any JSON value on one line, in ASCII so that no terminal or log is steered by it.

    `##[`, which GitHub's runner obeys anywhere in a line, can only stand within a string.
    """
    line = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return line.replace("\x7f", "\\u007f").replace("##[", "\\u0023#[")


class JsonReporter:
    """Writes one object a line to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def event(self, event: Event) -> None:
        """Write the event."""
        self._stream.write(one_line(event_object(event)) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is held."""
