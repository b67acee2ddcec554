"""What a Tomcat's configuration must say for shared sessions and a graceful stop, and nothing else.

Bytes in, bytes out: the wanted parts go into `context.xml` and `server.xml`, and no other byte
changes. No file, no network and no third party is touched. What cannot be merged raises
`NotMergeable`, with the line.
"""

from rolling_deploy.wiring.context_xml import (
    Fragment,
    merge_context,
    read_fragment,
    renews_manager,
)
from rolling_deploy.wiring.manifest import ABSENT, Manifest, is_plain_path
from rolling_deploy.wiring.masking import masked, masked_directives
from rolling_deploy.wiring.server_xml import merge_server
from rolling_deploy.wiring.xml_edit import NotMergeable

__all__ = [
    "ABSENT",
    "Fragment",
    "Manifest",
    "NotMergeable",
    "is_plain_path",
    "masked",
    "masked_directives",
    "merge_context",
    "merge_server",
    "read_fragment",
    "renews_manager",
]
