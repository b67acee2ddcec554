"""What of Java's own library has to be known without having it: a release does not carry it."""

from __future__ import annotations

import re

from rolling_deploy.serialization.class_file import Access, ClassFile

GIVEN_PREFIXES = (
    "java.",
    "javax.",
    "jakarta.",
    "jdk.",
    "sun.",
    "com.sun.",
    "org.w3c.dom.",
    "org.xml.sax.",
    "org.ietf.jgss.",
    "org.apache.catalina.",
    "org.apache.coyote.",
    "org.apache.jasper.",
    "org.apache.juli.",
    "org.apache.naming.",
    "org.apache.tomcat.",
    "org.redisson.",
    "com.orangefunction.",
)
"""Names of classes that Java, Tomcat and the session managers bring along."""

MADE_WHILE_RUNNING = re.compile(
    r"\$\$(EnhancerBy|FastClassBy|SpringCGLIB\$\$)|_\$\$_|\$(HibernateProxy|ByteBuddy)\$"
)
"""In names that CGLIB, Spring, Javassist, Weld, Hibernate and Byte Buddy give: no release carries
such a class, whether it will be there is known to code alone."""

_INTERFACES = {
    "java.io.Serializable": "",
    "java.io.Externalizable": "java.io.Serializable",
    "java.lang.AutoCloseable": "",
    "java.io.Closeable": "java.lang.AutoCloseable",
    "java.lang.CharSequence": "",
    "java.lang.Cloneable": "",
    "java.lang.Comparable": "",
    "java.lang.Iterable": "",
    "java.lang.Runnable": "",
    "java.security.Principal": "",
    "java.util.Comparator": "",
    "java.util.Iterator": "",
    "java.util.RandomAccess": "",
    "java.util.Collection": "java.lang.Iterable",
    "java.util.List": "java.util.Collection",
    "java.util.Queue": "java.util.Collection",
    "java.util.Deque": "java.util.Queue",
    "java.util.Set": "java.util.Collection",
    "java.util.SortedSet": "java.util.Set",
    "java.util.NavigableSet": "java.util.SortedSet",
    "java.util.Map": "",
    "java.util.SortedMap": "java.util.Map",
    "java.util.NavigableMap": "java.util.SortedMap",
    "java.util.concurrent.Callable": "",
    "java.util.concurrent.ConcurrentMap": "java.util.Map",
    "java.util.function.Consumer": "",
    "java.util.function.Function": "",
    "java.util.function.Predicate": "",
    "java.util.function.Supplier": "",
}
"""Interfaces and the ones they extend."""

_CLASSES = {
    "java.lang.Record": "java.lang.Object",
    "java.lang.Enum": "java.lang.Object java.lang.Comparable java.io.Serializable",
    "java.lang.String": (
        "java.lang.Object java.io.Serializable java.lang.Comparable java.lang.CharSequence"
    ),
    "java.lang.Boolean": "java.lang.Object java.io.Serializable java.lang.Comparable",
    "java.lang.Character": "java.lang.Object java.io.Serializable java.lang.Comparable",
    "java.lang.Number": "java.lang.Object java.io.Serializable",
    "java.lang.Byte": "java.lang.Number java.lang.Comparable",
    "java.lang.Short": "java.lang.Number java.lang.Comparable",
    "java.lang.Integer": "java.lang.Number java.lang.Comparable",
    "java.lang.Long": "java.lang.Number java.lang.Comparable",
    "java.lang.Float": "java.lang.Number java.lang.Comparable",
    "java.lang.Double": "java.lang.Number java.lang.Comparable",
    "java.math.BigDecimal": "java.lang.Number java.lang.Comparable",
    "java.math.BigInteger": "java.lang.Number java.lang.Comparable",
    "java.lang.Throwable": "java.lang.Object java.io.Serializable",
    "java.lang.Exception": "java.lang.Throwable",
    "java.lang.RuntimeException": "java.lang.Exception",
    "java.util.AbstractCollection": "java.lang.Object java.util.Collection",
    "java.util.AbstractList": "java.util.AbstractCollection java.util.List",
    "java.util.AbstractSet": "java.util.AbstractCollection java.util.Set",
    "java.util.AbstractMap": "java.lang.Object java.util.Map",
    "java.util.ArrayList": (
        "java.util.AbstractList java.util.RandomAccess java.lang.Cloneable java.io.Serializable"
    ),
    "java.util.LinkedList": (
        "java.util.AbstractList java.util.Deque java.lang.Cloneable java.io.Serializable"
    ),
    "java.util.Vector": (
        "java.util.AbstractList java.util.RandomAccess java.lang.Cloneable java.io.Serializable"
    ),
    "java.util.ArrayDeque": (
        "java.util.AbstractCollection java.util.Deque java.lang.Cloneable java.io.Serializable"
    ),
    "java.util.HashSet": "java.util.AbstractSet java.lang.Cloneable java.io.Serializable",
    "java.util.LinkedHashSet": "java.util.HashSet",
    "java.util.TreeSet": (
        "java.util.AbstractSet java.util.NavigableSet java.lang.Cloneable java.io.Serializable"
    ),
    "java.util.HashMap": "java.util.AbstractMap java.lang.Cloneable java.io.Serializable",
    "java.util.LinkedHashMap": "java.util.HashMap",
    "java.util.TreeMap": (
        "java.util.AbstractMap java.util.NavigableMap java.lang.Cloneable java.io.Serializable"
    ),
    "java.util.Hashtable": "java.util.Map java.lang.Cloneable java.io.Serializable",
    "java.util.Properties": "java.util.Hashtable",
    "java.util.concurrent.ConcurrentHashMap": (
        "java.util.AbstractMap java.util.concurrent.ConcurrentMap java.io.Serializable"
    ),
    "java.util.Date": (
        "java.lang.Object java.io.Serializable java.lang.Cloneable java.lang.Comparable"
    ),
    "java.sql.Date": "java.util.Date",
    "java.sql.Time": "java.util.Date",
    "java.sql.Timestamp": "java.util.Date",
    "java.util.EventObject": "java.lang.Object java.io.Serializable",
}
"""Classes that applications extend or hold, with what they extend and implement."""


def known_type(name: str) -> ClassFile | None:
    """Answers what is known here of a type of Java's own: its relatives, and nothing else."""
    if name == "java.lang.Object":
        return _type(name, "", "", Access.PUBLIC)
    if name in _INTERFACES:
        flags = Access.PUBLIC | Access.INTERFACE | Access.ABSTRACT
        return _type(name, "java.lang.Object", _INTERFACES[name], flags)
    if name not in _CLASSES:
        return None
    first, _, rest = _CLASSES[name].partition(" ")
    if first in _INTERFACES:
        first, rest = "java.lang.Object", _CLASSES[name]
    return _type(name, first, rest, Access.PUBLIC)


def _type(name: str, above: str, interfaces: str, access: Access) -> ClassFile:
    return ClassFile(
        name, access, above, tuple(interfaces.split()), (), (), is_record=False, major=0
    )
