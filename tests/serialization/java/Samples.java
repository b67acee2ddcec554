import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.Externalizable;
import java.io.IOException;
import java.io.NotSerializableException;
import java.io.ObjectInput;
import java.io.ObjectInputStream;
import java.io.ObjectOutput;
import java.io.ObjectOutputStream;
import java.io.ObjectStreamClass;
import java.io.ObjectStreamField;
import java.io.Serializable;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZonedDateTime;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.BitSet;
import java.util.Calendar;
import java.util.Collections;
import java.util.Currency;
import java.util.Date;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.GregorianCalendar;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.TimeZone;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Prints streams as Java writes them, and the class descriptors as Java reads them back.
 * A line is `= name base64`, followed by a line `uid class field:type ...` for each descriptor.
 */
public class Samples {
    enum Size { SMALL { @Override int of() { return 1; } }, LARGE; int of() { return 2; } }

    record Point(int x, String label) implements Serializable {}

    static class Above implements Serializable { int depth = 7; String kind = "above"; }

    static class Cart extends Above {
        private static final long serialVersionUID = 42L;
        long total = 12; boolean paid; double[] prices = {1, 2}; String[][] grid = {{"a"}, null};
        List<Object> lines = new ArrayList<>(); Size size = Size.SMALL; Cart self = this;
        Class<?> type = Cart.class; Object nothing; transient Thread worker;
    }

    static class Careful implements Serializable {
        int kept = 3; String name = "careful";
        private void writeObject(ObjectOutputStream out) throws IOException {
            out.defaultWriteObject();
            out.writeInt(5); out.writeObject(new Point(1, "p")); out.writeUTF("tail");
        }
        private void readObject(ObjectInputStream in) throws IOException, ClassNotFoundException {
            in.defaultReadObject();
            in.readInt(); in.readObject(); in.readUTF();
        }
    }

    /** Leaves its fields out, against the specification; its first byte would pass for a number. */
    static class Careless implements Serializable {
        int number; String name;
        private void writeObject(ObjectOutputStream out) throws IOException {
            out.writeObject("by hand"); out.writeInt(9); out.writeObject(new Point(2, "q"));
        }
        private void readObject(ObjectInputStream in) throws IOException, ClassNotFoundException {
            in.readObject(); in.readInt(); in.readObject();
        }
    }

    static class Bare implements Serializable {
        int number; String name;
        private void writeObject(ObjectOutputStream out) throws IOException { out.writeInt(9); }
        private void readObject(ObjectInputStream in) throws IOException { in.readInt(); }
    }

    static class Put implements Serializable {
        private static final ObjectStreamField[] serialPersistentFields = {
            new ObjectStreamField("named", String.class), new ObjectStreamField("n", long.class)};
        private void writeObject(ObjectOutputStream out) throws IOException {
            ObjectOutputStream.PutField put = out.putFields();
            put.put("named", "x"); put.put("n", 5L);
            out.writeFields();
        }
        private void readObject(ObjectInputStream in) throws IOException, ClassNotFoundException {
            in.readFields();
        }
    }

    public static class Outside implements Externalizable {
        Object held = new Date(0);
        public Outside() {}
        @Override public void writeExternal(ObjectOutput out) throws IOException {
            out.writeInt(1); out.writeObject(held); out.write(new byte[3000]);
        }
        @Override public void readExternal(ObjectInput in) throws IOException, ClassNotFoundException {
            in.readInt(); held = in.readObject(); in.readFully(new byte[3000]);
        }
    }

    static class Replaced implements Serializable {
        private Object writeReplace() { return new Point(9, "instead"); }
    }

    static class Node implements Serializable { Node next; int n; Node(Node next) { this.next = next; } }

    static class Handler implements InvocationHandler, Serializable {
        @Override public Object invoke(Object proxy, Method method, Object[] args) { return null; }
    }

    static class Umlaut\u00e4 implements Serializable { int gr\u00f6\u00dfe = 1; String \u6f22 = "\uD83D\uDE00\0"; }

    interface Writing { void into(ObjectOutputStream out) throws Exception; }

    public static void main(String[] args) throws Exception {
        Thread deep = new Thread(null, () -> {
            try { all(); } catch (Throwable t) { t.printStackTrace(); System.exit(1); }
        }, "deep", 256L << 20); // Java itself reads by recursion
        deep.start();
        deep.join();
        System.exit(0);
    }

    static void all() throws Exception {
        Map<Object, Object> map = new HashMap<>();
        map.put("a", 1); map.put(2L, new Date(0)); map.put('c', new Object[] {1.5f, null, (short) 1, (byte) 2});
        one("maps", map, new LinkedHashMap<>(map), new TreeMap<>(Map.of("x", 1)), new ConcurrentHashMap<>(map),
            new Properties(), Map.of("k", "v"), Collections.synchronizedMap(new HashMap<>(map)),
            new EnumMap<>(Map.of(TimeUnit.DAYS, 1)));
        one("lists", new ArrayList<>(List.of(1, 2)), new LinkedList<>(List.of("a")), new HashSet<>(List.of(1)),
            List.of(1, 2, 3), Arrays.asList(1, "b"), Collections.unmodifiableList(new ArrayList<>()),
            new ArrayDeque<>(List.of(1)), new CopyOnWriteArrayList<>(List.of(1)), EnumSet.of(TimeUnit.DAYS),
            new BitSet(9), Collections.emptyList());
        one("time", Instant.EPOCH, LocalDate.EPOCH, Duration.ofDays(1), ZonedDateTime.parse("2020-01-01T00:00:00Z"),
            new Date(0), new GregorianCalendar(TimeZone.getTimeZone("UTC")), TimeZone.getTimeZone("Europe/Berlin"),
            Locale.GERMANY, Currency.getInstance("EUR"), Calendar.getInstance(TimeZone.getTimeZone("UTC")));
        one("numbers", new BigDecimal("1.5"), BigInteger.TEN, UUID.randomUUID(), URI.create("http://a/"),
            new AtomicInteger(1), Long.MIN_VALUE, true, 'x', new long[3], new boolean[2], new char[2], new int[2][3]);
        Cart cart = new Cart();
        cart.lines.add(cart); cart.lines.add(Size.LARGE); cart.lines.add(Size.SMALL);
        one("own", cart, cart, new Point(1, "a"), new Point[] {new Point(2, null)}, Size.values(), Size.class, int.class,
            Object.class, Above[].class);
        one("by hand", new Careful(), new Put(), new Outside(), new Replaced(), new Careful());
        one("careless", new Careless(), cart);
        one("bare", new Bare(), cart, new Careless());
        one("exceptions", new IllegalStateException("no", new IOException("why")));
        one("proxies", Proxy.newProxyInstance(Samples.class.getClassLoader(),
            new Class<?>[] {Runnable.class, Comparable.class}, new Handler()));
        one("text", "x".repeat(70_000), "\u00e4\uD83D\uDE00\0", new Umlaut\u00e4());
        Object self[] = new Object[3];
        self[0] = self; self[1] = new ArrayList<>(List.of(1)); self[2] = self[1];
        one("circle", (Object) self);
        Node node = null;
        for (int i = 0; i < 900; i++) node = new Node(node);
        one("deep", node);
        write("reset", out -> { out.writeObject(cart); out.reset(); out.writeObject(cart); out.reset(); out.writeInt(1); });
        write("unshared", out -> { out.writeUnshared(new Date(1)); out.writeUnshared(new Date(2)); out.writeObject("x"); });
        write("aborted", out -> {
            try { out.writeObject(new ArrayList<>(List.of(cart, new Thread()))); } catch (NotSerializableException e) { }
            out.writeObject(new Point(5, "after"));
        });
        write("session", out -> {
            for (Object each : new Object[] {1L, 2L, 1800, false, true, 3L, "id", 2, "cart", cart, "user", map, "plain"}) {
                out.writeObject(each);
            }
            out.writeLong(5); out.writeObject("last");
        });
    }

    static void one(String name, Object... objects) throws Exception {
        write(name, out -> { for (Object each : objects) out.writeObject(each); });
    }

    static void write(String name, Writing writing) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) { writing.into(out); }
        System.out.println("= " + name.replace(' ', '-') + " " + Base64.getEncoder().encodeToString(bytes.toByteArray()));
        List<String> seen = new ArrayList<>();
        try (ObjectInputStream in = new ObjectInputStream(new ByteArrayInputStream(bytes.toByteArray())) {
            @Override protected ObjectStreamClass readClassDescriptor() throws IOException, ClassNotFoundException {
                ObjectStreamClass found = super.readClassDescriptor();
                StringBuilder line = new StringBuilder(found.getSerialVersionUID() + " " + found.getName());
                for (ObjectStreamField each : found.getFields()) {
                    String type = each.getTypeString();
                    line.append(' ').append(each.getName()).append(':').append(type == null ? "" + each.getTypeCode() : type);
                }
                seen.add(line.toString());
                return found;
            }
        }) {
            for (;;) {
                if (in.available() > 0) { in.skipBytes(in.available()); continue; }
                in.readObject();
            }
        } catch (EOFException end) {
            // All was read.
        } catch (Exception e) {
            seen.add("! " + e);
        }
        for (String line : seen) System.out.println(line);
    }
}
