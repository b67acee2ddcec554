"""Inputs that once ended in another way than they should. None is ever taken out."""

from __future__ import annotations

FAILED: tuple[tuple[str, bytes], ...] = (
    # Nested deeper than Python recurses.
    ("record", b"[" * 100_000 + b"\n"),
    ("record, sealed", b'{"at_ms":1,"epoch":1,"holder":"a"}'),
    (
        "record, sealed",
        b'{"at_ms":1,"epoch":[],"holder":"a","fact":{"type":"TakenOver","by":"a","lost":true}}',
    ),
    # A time too large for a float, and epochs that no shell compares.
    (
        "record, sealed",
        b'{"at_ms":1' + b"0" * 400 + b',"epoch":1,"holder":"a",'
        b'"fact":{"type":"TakenOver","by":"a","lost":true,"reason":""}}',
    ),
    (
        "record, sealed",
        b'{"at_ms":1,"epoch":1' + b"0" * 30 + b',"holder":"a",'
        b'"fact":{"type":"TakenOver","by":"a","lost":true,"reason":""}}',
    ),
    (
        "record, sealed",
        (
            b'{"at_ms":1,"epoch":-5,"holder":"a",'
            b'"fact":{"type":"TakenOver","by":"a","lost":true,"reason":""}}'
        ),
    ),
    # A time that no calendar has.
    ("record of odd facts", b"b\xeb"),
    ("record of odd facts", b"i"),
    # A proof about a backend that was never upgraded.
    (
        "record of odd facts",
        bytes.fromhex("ffffe577ffffffffffffffffffffffffffffffffffffffffffd21fd8186b3361"),
    ),
    # A number that is none, in lines whose numbers were taken as they came.
    ("look", b"worker=1 2\nend=done\n"),
    ("look", b"worker=a b retiring - -\nend=done\n"),
    ("look", b"master=x\nend=done\n"),
    ("look", b"fence=\xc2\xb2 a\nend=done\n"),
    ("look", b"master=" + b"9" * 5_000 + b"\nend=done\n"),
    ("facts", b"master=x\nend=done\n"),
    ("facts", b"master_seen=1\nend=done\n"),
    ("facts", b"orphan=x\nend=done\n"),
    ("facts", b"clock_ms=\xc2\xb2\nend=done\n"),
    ("backend", b"deployed_bytes=x\nfree_kb=\xc2\xb2\nend=done\n"),
    ("backend", b"unwritable=/a\nend=done\n"),
    # Base64 that is not even ASCII.
    ("reply", b"key:=\xc3\xa9\nend=done\n"),
    ("known_hosts", "host ssh-ed25519 é\n".encode()),
    ("known_hosts", "|1|é|é ssh-ed25519 a2V5\n".encode()),
    # Tomcat's own encoding declaration, and one that nobody knows.
    ("server.xml", b'<?xml version="1.0" encoding="ISO-8859-1"?><Server><!-- caf\xe9 --></Server>'),
    ("server.xml", b'<?xml version="1.0" encoding="no-such"?><Server/>'),
    ("server.xml", b"<Server>\xff</Server>"),
    # A word of a CI system at the beginning of a line.
    ("shown", b"::error::x"),
    ("shown", b"\xff"),
)
