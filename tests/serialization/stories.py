"""Changes of session classes between two versions, and what is expected of each.

A story is two pieces of Java: the old one has a class `Make` that makes what is stored, the new
one is what reads it. Both are compiled, and a real Java says whether it can be read.
"""

from __future__ import annotations

from dataclasses import dataclass

from rolling_deploy.serialization import Fate

UID = "private static final long serialVersionUID = 1L;"


@dataclass(frozen=True)
class Story:
    """One change.

    Attributes:
        old: Java source, without package and imports; `Make` is added from `makes`.
        fate: of the class `subject`.
        reads: what the object that Java reads back shows, or None where Java refuses.
    """

    old: str
    new: str
    fate: Fate
    reads: str | None
    makes: str = "new Cart()"
    subject: str = "Cart"


def cart(body: str, head: str = "class Cart implements Serializable") -> str:
    """Answers a class that declares its version."""
    return f"{head} {{ {UID} {body} }}"


def plain(body: str, head: str = "class Cart implements Serializable") -> str:
    """Answers a class that does not."""
    return f"{head} {{ {body} }}"


LINE = "class Line implements Serializable { private static final long serialVersionUID = 3L; }"
BASE = "class Base implements Serializable { private static final long serialVersionUID = 2L; %s }"
OUT = """class Cart implements Externalizable { private static final long serialVersionUID = 1L;
    int a; %s
    public void writeExternal(ObjectOutput out) throws IOException { out.writeInt(7); }
    public void readExternal(ObjectInput in) throws IOException { a = in.readInt(); } }"""
HAND = """int a = 5;
    private void writeObject(ObjectOutputStream out) throws IOException {
        out.defaultWriteObject(); out.writeInt(9); }"""

STORIES = {
    # The version
    "same": Story(plain("int a = 5;"), plain("int a = 5;"), Fate.SURVIVES, "a=5"),
    "field_added": Story(plain("int a = 5;"), plain("int a; int b;"), Fate.DIFFERS, None),
    "method_added": Story(plain("int a = 5;"), plain("int a; void m() {}"), Fate.DIFFERS, None),
    "private_method_added": Story(
        plain("int a = 5;"), plain("int a; private void m() {}"), Fate.SURVIVES, "a=5"
    ),
    "lambda_added": Story(
        plain("int a = 5; Object m() { return null; }"),
        plain("int a; Object m() { Runnable r = () -> {}; return r; }"),
        Fate.SURVIVES,
        "a=5",
    ),
    "assert_added": Story(
        plain("int a = 5; void m() {}"),
        plain("int a; void m() { assert a > 1; }"),
        Fate.DIFFERS,
        None,
    ),
    "declared_now_as_it_was_computed_not": Story(
        plain("int a = 5;"), cart("int a;"), Fate.DIFFERS, None
    ),
    "declares_what_was_computed": Story(
        plain("int a = 5;"),
        plain("private static final long serialVersionUID = -5975477245292779542L; int a; int b;"),
        Fate.SURVIVES,
        "a=5 b=0",
    ),
    "declared_as_int": Story(
        plain("static final int serialVersionUID = 4; int a = 5;"),
        plain("static final int serialVersionUID = 4; int a; int b;"),
        Fate.SURVIVES,
        "a=5 b=0",
    ),
    "declared_but_not_final": Story(
        plain("static long serialVersionUID = 4; int a = 5;"),
        plain("static long serialVersionUID = 4; int a; int b;"),
        Fate.DIFFERS,
        None,
    ),
    "declared_by_code": Story(
        plain('static final long serialVersionUID = Long.parseLong("4"); int a = 5;'),
        plain('static final long serialVersionUID = Long.parseLong("4"); int a;'),
        Fate.UNKNOWN,
        "a=5",
    ),
    "nested_class_made_public": Story(
        "class Cart { protected static class In implements Serializable { int a = 5; } }",
        "class Cart { public static class In implements Serializable { int a; } }",
        Fate.DIFFERS,
        None,
        makes="new Cart.In()",
        subject="Cart$In",
    ),
    "nested_class_moved_in_the_file": Story(
        "class Cart { static class In implements Serializable { int a = 5; } }",
        "class Cart { static class Other {} static class In implements Serializable { int a; } }",
        Fate.SURVIVES,
        "a=5",
        makes="new Cart.In()",
        subject="Cart$In",
    ),
    # Fields
    "field_added_declared": Story(
        cart("int a = 5;"), cart("int a; int b;"), Fate.SURVIVES, "a=5 b=0"
    ),
    "field_removed": Story(cart("int a = 5; int b;"), cart("int b;"), Fate.LOSES, "b=0"),
    "field_made_transient": Story(cart("int a = 5;"), cart("transient int a;"), Fate.LOSES, "a=0"),
    "field_made_static": Story(cart("int a = 5;"), cart("static int a;"), Fate.LOSES, ""),
    "field_renamed": Story(cart("int a = 5;"), cart("int b;"), Fate.LOSES, "b=0"),
    "int_to_long": Story(cart("int a = 5;"), cart("long a;"), Fate.DIFFERS, None),
    "int_to_integer": Story(cart("int a = 5;"), cart("Integer a;"), Fate.DIFFERS, None),
    "string_to_int": Story(cart("String a = null;"), cart("int a;"), Fate.DIFFERS, None),
    "wider_type": Story(
        cart("ArrayList<String> a = new ArrayList<>();"),
        cart("List<String> a;"),
        Fate.SURVIVES,
        "a=[]",
    ),
    "to_object": Story(cart("Runtime a;"), cart("Object a;"), Fate.SURVIVES, "a=null"),
    "narrower_type_that_fits": Story(
        cart("List<String> a = new ArrayList<>();"),
        cart("ArrayList<String> a;"),
        Fate.MAY_FAIL,
        "a=[]",
    ),
    "narrower_type_that_does_not": Story(
        cart("List<String> a = new LinkedList<>();"),
        cart("ArrayList<String> a;"),
        Fate.MAY_FAIL,
        None,
    ),
    "other_type_of_our_own": Story(
        cart("Line a = new Line();") + LINE, cart("Base a;") + LINE + BASE % "", Fate.MAY_FAIL, None
    ),
    "other_type_but_null": Story(
        cart("Line a;") + LINE, cart("Base a;") + LINE + BASE % "", Fate.MAY_FAIL, "a=null"
    ),
    "type_above_of_our_own": Story(
        cart("Line a = new Line();") + LINE,
        cart("Top a;")
        + "interface Top {}"
        + LINE.replace("Line implements", "Line implements Top,"),
        Fate.SURVIVES,
        "a=",
    ),
    "array_type": Story(cart("int[] a = {1};"), cart("long[] a;"), Fate.MAY_FAIL, None),
    "array_to_wider": Story(
        cart("String[] a = {null};"), cart("Object[] a;"), Fate.SURVIVES, "a=array of 1"
    ),
    "array_to_object": Story(
        cart("int[] a = {1};"), cart("Object a;"), Fate.SURVIVES, "a=array of 1"
    ),
    "array_to_collection": Story(
        cart("String[] a = {null};"), cart("List<String> a;"), Fate.MAY_FAIL, None
    ),
    "fields_by_code": Story(
        cart("int a = 5;"),
        cart(
            "int a; private static final ObjectStreamField[] serialPersistentFields ="
            ' { new ObjectStreamField("a", int.class) };'
        ),
        Fate.UNKNOWN,
        "a=5",
    ),
    "by_hand_no_more": Story(cart(HAND), cart("int a;"), Fate.LOSES, "a=5"),
    "by_hand_added_nothing": Story(
        cart(HAND.replace("out.writeInt(9);", "")), cart("int a;"), Fate.SURVIVES, "a=5"
    ),
    "a_lambda": Story(
        plain("Runnable a = (Runnable & Serializable) () -> {};"),
        plain("Runnable a;"),
        Fate.UNKNOWN,
        None,
        subject="java.lang.invoke.SerializedLambda",
    ),
    # Classes that are gone
    "class_gone": Story(plain("int a;"), "class Other {}", Fate.MISSING, None),
    "class_gone_in_a_kept_field": Story(
        cart("Object a = new Line();") + LINE, cart("Object a;"), Fate.MISSING, None, subject="Line"
    ),
    "class_gone_in_a_kept_list": Story(
        cart("Object a = new ArrayList<>(List.of(new Line()));") + LINE,
        cart("Object a;"),
        Fate.MISSING,
        None,
        subject="Line",
    ),
    "class_gone_with_its_field": Story(
        cart("Line a = new Line(); int b = 5;") + LINE,
        cart("int b;"),
        Fate.LOSES,
        "b=5",
        subject="Line",
    ),
    "class_gone_with_its_list": Story(
        cart("Object a = new ArrayList<>(List.of(new Line())); int b = 5;") + LINE,
        cart("int b;"),
        Fate.LOSES,
        "b=5",
        subject="Line",
    ),
    "class_gone_with_its_array": Story(
        cart("Line[] a = {new Line()}; int b = 5;") + LINE,
        cart("int b;"),
        Fate.LOSES,
        "b=5",
        subject="Line",
    ),
    "class_gone_in_a_kept_field_above": Story(
        cart("int b = 5;", "class Cart extends Base") + BASE % "Object a = new Line();" + LINE,
        cart("int b;", "class Cart extends Base") + BASE % "Object a;",
        Fate.MISSING,
        None,
        subject="Line",
    ),
    "class_gone_with_a_field_above": Story(
        cart("int b = 5;", "class Cart extends Base") + BASE % "Object a = new Line();" + LINE,
        cart("int b;", "class Cart extends Base") + BASE % "",
        Fate.LOSES,
        "b=5",
        subject="Line",
    ),
    "class_gone_with_one_of_two_fields": Story(
        cart("Object a = new Line(); Object b = a;") + LINE,
        cart("Object b;"),
        Fate.MISSING,
        None,
        subject="Line",
    ),
    "class_changed_in_a_removed_field": Story(
        cart("Line a = new Line(); int b = 5;") + LINE,
        cart("int b;") + LINE.replace("3L", "4L"),
        Fate.DIFFERS,
        None,
        subject="Line",
    ),
    "array_of_a_class_that_is_gone": Story(
        LINE, "class Other {}", Fate.MISSING, None, "new Line[0]", "[LLine"
    ),
    "array_of_a_changed_class": Story(
        LINE, LINE.replace("3L", "4L"), Fate.SURVIVES, "array of 1", "new Line[1]", "[LLine"
    ),
    "class_object_that_is_gone": Story(
        LINE, "class Other {}", Fate.MISSING, None, "Line.class", "Line"
    ),
    "class_object_that_changed": Story(
        LINE, LINE.replace("3L", "4L"), Fate.DIFFERS, None, "Line.class", "Line"
    ),
    "class_object_that_is_abstract": Story(
        LINE,
        LINE.replace("class Line", "abstract class Line"),
        Fate.SURVIVES,
        "Line",
        "Line.class",
        "Line",
    ),
    "proxy_of_what_is_gone": Story(
        "interface Top { int m(); } class Hand implements java.lang.reflect.InvocationHandler,"
        " Serializable { public Object invoke(Object p, java.lang.reflect.Method m, Object[] a)"
        " { return null; } }",
        "class Other {}",
        Fate.MISSING,
        None,
        "java.lang.reflect.Proxy.newProxyInstance(Top.class.getClassLoader(),"
        " new Class<?>[] {Top.class}, new Hand())",
        "$Proxy",
    ),
    # Above
    "above_gone": Story(
        cart("int b = 5;", "class Cart extends Base") + BASE % "int a = 6;",
        cart("int b;"),
        Fate.LOSES,
        "b=5",
    ),
    "above_gone_and_empty": Story(
        cart("int b = 5;", "class Cart extends Base") + BASE % "",
        cart("int b;"),
        Fate.SURVIVES,
        "b=5",
    ),
    "above_moved_out": Story(
        cart("int b = 5;", "class Cart extends Base") + BASE % "int a = 6;",
        cart("int b;") + BASE % "int a;",
        Fate.LOSES,
        "b=5",
    ),
    "above_came_in": Story(
        cart("int b = 5;"),
        cart("int b;", "class Cart extends Base") + BASE % "int a = 6;",
        Fate.SURVIVES,
        "a=0 b=5",
    ),
    "above_changed": Story(
        cart("int b = 5;", "class Cart extends Base") + BASE % "int a;",
        cart("int b;", "class Cart extends Base") + (BASE % "int a;").replace("2L", "4L"),
        Fate.DIFFERS,
        None,
        subject="Base",
    ),
    "above_not_serializable_any_more": Story(
        cart("int b = 5;", "class Cart extends Base") + BASE % "int a = 6;",
        cart("int b;", "class Cart extends Base implements Serializable")
        + "class Base { int a = 1; }",
        Fate.LOSES,
        "a=1 b=5",
        subject="Base",
    ),
    "above_of_javas_own": Story(
        cart("int b = 5;", "class Cart extends HashMap<String, String>"),
        cart("int b; int c;", "class Cart extends HashMap<String, String>"),
        Fate.SURVIVES,
        "b=5 c=0",
    ),
    "above_of_javas_own_not_known": Story(
        cart("int b = 5;", "class Cart extends java.util.concurrent.atomic.AtomicInteger"),
        cart("int b; int c;", "class Cart extends java.util.concurrent.atomic.AtomicInteger"),
        Fate.SURVIVES,
        "b=5 c=0",
    ),
    "field_of_a_class_above_removed": Story(
        cart("int b = 5;", "class Cart extends Base") + BASE % "int a = 6;",
        cart("int b;", "class Cart extends Base") + BASE % "",
        Fate.LOSES,
        "b=5",
        subject="Base",
    ),
    # Another kind of class
    "to_externalizable": Story(cart("int a = 5;"), OUT % "public Cart() {}", Fate.DIFFERS, None),
    "from_externalizable": Story(OUT % "public Cart() {}", cart("int a;"), Fate.DIFFERS, None),
    "externalizable": Story(
        OUT % "public Cart() {}", OUT % "int b; public Cart() {}", Fate.SURVIVES, "a=7 b=0"
    ),
    "externalizable_without_constructor": Story(
        OUT % "public Cart() {}", OUT % "Cart() {}", Fate.DIFFERS, None
    ),
    "not_serializable_any_more": Story(cart("int a;"), "class Cart { int a; }", Fate.DIFFERS, None),
    "abstract_now": Story(
        cart("int a;"),
        cart("int a;", "abstract class Cart implements Serializable"),
        Fate.DIFFERS,
        None,
    ),
    "interface_now": Story(
        cart("int a;"),
        "interface Cart extends Serializable { long serialVersionUID = 1L; }",
        Fate.DIFFERS,
        None,
    ),
    "to_enum": Story(cart("int a;"), "enum Cart { A }", Fate.DIFFERS, None),
    "from_enum": Story(
        "enum Cart { A }",
        plain("static final long serialVersionUID = 0;"),
        Fate.DIFFERS,
        None,
        "Cart.A",
    ),
    "enum_constant_added": Story(
        "enum Cart { A }", "enum Cart { B, A }", Fate.SURVIVES, "A", "Cart.A"
    ),
    "enum_constant_gone": Story(
        "enum Cart { A, B }", "enum Cart { B }", Fate.DIFFERS, None, "Cart.A"
    ),
    "enum_constant_gone_that_nobody_has": Story(
        "enum Cart { A, B }", "enum Cart { A }", Fate.SURVIVES, "A", "Cart.A"
    ),
    "enum_constant_with_a_body": Story(
        "enum Cart { A { int m() { return 1; } }; int m() { return 0; } }",
        "enum Cart { A; int m() { return 0; } }",
        Fate.SURVIVES,
        "A",
        "Cart.A",
    ),
    # Records
    "record": Story(
        "record Cart(int a) implements Serializable {}",
        "record Cart(int a) implements Serializable { void m() {} }",
        Fate.SURVIVES,
        "a=5",
        "new Cart(5)",
    ),
    "record_with_another_version": Story(
        "record Cart(int a) implements Serializable { static final long serialVersionUID = 4; }",
        "record Cart(int a) implements Serializable { static final long serialVersionUID = 5; }",
        Fate.SURVIVES,
        "a=5",
        "new Cart(5)",
    ),
    "record_grown": Story(
        "record Cart(int a) implements Serializable {}",
        "record Cart(String b, int a) implements Serializable {}",
        Fate.SURVIVES,
        "a=5 b=null",
        "new Cart(5)",
    ),
    "record_shrunk": Story(
        "record Cart(int a, int b) implements Serializable {}",
        "record Cart(int b) implements Serializable {}",
        Fate.LOSES,
        "b=6",
        "new Cart(5, 6)",
    ),
    "record_with_another_plain_type": Story(
        "record Cart(int a) implements Serializable {}",
        "record Cart(long a) implements Serializable {}",
        Fate.DIFFERS,
        None,
        "new Cart(5)",
    ),
    "record_with_a_wider_type": Story(
        "record Cart(ArrayList<String> a) implements Serializable {}",
        "record Cart(List<String> a) implements Serializable {}",
        Fate.SURVIVES,
        "a=[]",
        "new Cart(new ArrayList<>())",
    ),
    "record_with_a_narrower_type": Story(
        "record Cart(List<String> a) implements Serializable {}",
        "record Cart(ArrayList<String> a) implements Serializable {}",
        Fate.MAY_FAIL,
        None,
        "new Cart(new LinkedList<>())",
    ),
    "class_to_record": Story(
        cart("int a = 5; int b = 6;"),
        "record Cart(int b) implements Serializable {}",
        Fate.LOSES,
        "b=6",
    ),
    "record_to_class": Story(
        "record Cart(int a) implements Serializable {}",
        cart("int a;"),
        Fate.DIFFERS,
        None,
        "new Cart(5)",
    ),
    "record_to_class_of_its_version": Story(
        "record Cart(int a) implements Serializable {}",
        plain("static final long serialVersionUID = 0; int a;"),
        Fate.SURVIVES,
        "a=5",
        "new Cart(5)",
    ),
    # Constructors
    "constructor_above_gone": Story(
        cart("int a = 5;", "class Cart extends Top implements Serializable") + "class Top {}",
        cart("int a = 5; Cart() { super(1); }", "class Cart extends Top implements Serializable")
        + "class Top { Top(int x) {} }",
        Fate.DIFFERS,
        None,
    ),
    "constructor_above_private": Story(
        cart("int a = 5;", "class Cart extends Top implements Serializable") + "class Top {}",
        "class Top { private Top() {} static "
        + cart("int a;", "class Cart extends Top implements Serializable")
        + "}"
        + cart("int a; Cart() { super(1); }", "class Cart extends Up implements Serializable")
        + "class Up { private Up() {} Up(int x) {} }",
        Fate.DIFFERS,
        None,
    ),
    "constructor_above_of_the_package": Story(
        cart("int a = 5;", "class Cart extends Top implements Serializable") + "class Top {}",
        cart("int a;", "class Cart extends Top implements Serializable")
        + "class Top { int t = 3; Top() {} Top(int x) {} }",
        Fate.SURVIVES,
        "a=5 t=3",
    ),
}
