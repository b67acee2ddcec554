"""Tomcat's configuration files in every shape that somebody could have written them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import strategies as st

from rolling_deploy.wiring import read_fragment

VALVE = "org.example.HandlerValve"
WANTED = read_fragment(
    f'<Valve className="{VALVE}"/>\n'
    '<Manager className="org.example.OurManager" a="1"\n         b="x &amp; &lt;y>"/>'
)
OURS = (
    '<Manager className="org.example.OurManager" a="1"/>',
    "<Manager className='org.example.OurManager' b='x &amp; &lt;y>' a='1'/>",
    '<Manager className="org.example.OurManager"></Manager>',
    f'<Valve className="{VALVE}" extra="1" />',
)
OTHERS = (
    b'<Manager pathname=""/>',
    b'<Manager className="org.other.Manager"><Store/></Manager>',
)
ENCODINGS = ("UTF-8", "utf-8", "US-ASCII", "ISO-8859-1", "ISO-8859-15", "windows-1252")
_FOREIGN = (
    "<WatchedResource>WEB-INF/web.xml</WatchedResource>",
    '<!-- <Manager className="org.example.OurManager" a="2"/> -->',
    f'<!--\n  <Valve className="{VALVE}" z=""/>\n-->',
    '<Resource name="jdbc/x" password="a>b" other=\'"\'/>',
    '<Loader>\n  <Valve className="nested.Valve"/>\n</Loader>',
    "<![CDATA[ </Context> ]]>",
    "<?keep this='>'?>",
    '<Parameter name="Zürich" value="é>"/>',
    "text",
)
_BLANKS = ("", " ", "\n", "\n  ", "\n\n\t", "\n    ")


@st.composite
def context_files(draw: st.DrawFn, *, newline: str | None = None, ours: bool = True) -> bytes:
    """Answers a `context.xml` that can be merged."""
    encoding = draw(st.sampled_from([None, *ENCODINGS]))
    ends = newline or draw(st.sampled_from(["\n", "\r\n"]))
    head = "" if encoding is None else f'<?xml version="1.0" encoding="{encoding}"?>\n'
    head += draw(st.sampled_from(["", "<!-- <Context/> -->\n", "<!DOCTYPE Context>\n"]))
    tag = draw(st.sampled_from(["<Context", "<Context path='/'", '<Context a="/>"', "<Context\n"]))
    pieces = draw(st.lists(st.sampled_from(_FOREIGN), max_size=5))
    if ours:
        kinds = {one.split()[0]: one for one in draw(st.lists(st.sampled_from(OURS), max_size=3))}
        pieces += kinds.values()
    pieces = draw(st.permutations(pieces))
    blanks = [draw(st.sampled_from(_BLANKS)) for _ in range(len(pieces) + 1)]
    if not pieces and draw(st.booleans()):
        text = f"{head}{tag}{draw(st.sampled_from(['', ' ']))}/>"
    else:
        body = "".join(blank + piece for blank, piece in zip(blanks, pieces, strict=False))
        text = f"{head}{tag}>{body}{blanks[-1]}</Context>"
    text += draw(st.sampled_from(["", "\n", "\n<!-- </Context> -->\n"]))
    codec = encoding or "utf-8"
    content = text.replace("\n", ends).encode(codec, "xmlcharrefreplace")
    return (
        b"\xef\xbb\xbf" + content if codec.lower() == "utf-8" and draw(st.booleans()) else content
    )


@st.composite
def server_files(draw: st.DrawFn) -> tuple[bytes, int]:
    """Answers a `server.xml` and a port that something in it listens on."""
    port = draw(st.integers(1, 65_535))
    other = port % 65_535 + 1
    services = draw(st.integers(1, 3))
    which = draw(st.integers(0, services - 1))
    parts = ["<Server port='8005'>", draw(st.sampled_from(_BLANKS))]
    for index in range(services):
        graceful = draw(
            st.sampled_from(
                ["", ' gracefulStopAwaitMillis="4321"', ' gracefulStopAwaitMillis="1"']
                if index == which
                else ["", " gracefulStopAwaitMillis='9'"]
            )
        )
        parts.append(f"<Service name='>{index}'{graceful}>")
        parts.append(f'<!-- <Connector port="{port}"/> -->')
        parts.append(draw(st.sampled_from(_BLANKS)))
        parts.append(f'<Connector port="{other}"\n  bindOnInit = "true" />')
        if index == which:
            bound = draw(st.sampled_from(["", ' bindOnInit="false"', ' bindOnInit="true"']))
            last = draw(st.sampled_from(["/>", " />", "><SSL x='>'/></Connector>", "\n/>"]))
            parts.append(f'<Connector protocol="HTTP/1.1" port="{port}"{bound}{last}')
        parts.append("<Engine name='Zürich' defaultHost='x'/></Service>")
    parts.append("</Server>\n")
    encoding = draw(st.sampled_from(["utf-8", "iso-8859-1"]))
    text = f'<?xml version="1.0" encoding="{encoding}"?>{"".join(parts)}'
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    return text.replace("\n", ends).encode(encoding), port


def attribute_texts() -> st.SearchStrategy[str]:
    """Answers any text that one line of an XML file can hold."""
    hostile = st.sampled_from(
        ['"', "'", "<", "&", "&amp;", "]]>", "-->", "\\", "#", ": ", "${x", "{{", "%}", "'\"/><X"]
    )
    letters = st.text(
        st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"),
        max_size=5,
    )
    return st.lists(st.one_of(hostile, letters), max_size=5).map("".join)


def read_xml(content: bytes) -> ET.Element:
    """Answers what another reader than ours finds in a file."""
    return ET.fromstring(content)  # noqa: S314 # made by the test
