"""Which stored Java sessions a release can still read, judged from bytes alone.

Bytes in, values out: a stored value (`read_value`), the archive of a release (`Classes`), and what
becomes of the one under the other (`judge`). No file, no network and no Java is touched; the
caller opens what is read. Every reader here takes bytes that somebody else wrote and raises
`NotReadable`, nothing else.
"""

from rolling_deploy.serialization.classes import Classes
from rolling_deploy.serialization.compatibility import judge
from rolling_deploy.serialization.not_readable import NotReadable
from rolling_deploy.serialization.release_class import Release
from rolling_deploy.serialization.stored import Flag, Kind, Place, StoredClass, StoredField
from rolling_deploy.serialization.value import Form, StoredValue, judge_names, read_value
from rolling_deploy.serialization.verdict import Fate, Verdict

__all__ = [
    "Classes",
    "Fate",
    "Flag",
    "Form",
    "Kind",
    "NotReadable",
    "Place",
    "Release",
    "StoredClass",
    "StoredField",
    "StoredValue",
    "Verdict",
    "judge",
    "judge_names",
    "read_value",
]
