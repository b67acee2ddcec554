import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.io.ObjectStreamClass;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.tools.ToolProvider;

/**
 * Argument: a folder with `old/NAME/*.java` and `new/NAME/*.java`, a package for each story.
 * Compiles both to `old-classes` and `new-classes`, writes what `NAME.Make` makes with the old
 * classes, reads it with the new ones, and prints `NAME base64 answer`.
 * Then prints `# class uid` for every new class, `none` for one that is not serializable.
 */
public class Judge {
    public static void main(String[] args) throws Exception {
        Path root = Path.of(args[0]);
        compile(root, "old");
        compile(root, "new");
        try (URLClassLoader before = loader(root, "old"); URLClassLoader after = loader(root, "new");
                Stream<Path> stories = Files.list(root.resolve("old"))) {
            for (Path story : (Iterable<Path>) stories.sorted()::iterator) {
                String name = story.getFileName().toString();
                Object made = ((Supplier<?>) instance(before, name + ".Make")).get();
                ByteArrayOutputStream bytes = new ByteArrayOutputStream();
                try (ObjectOutputStream out = new ObjectOutputStream(bytes)) { out.writeObject(made); }
                String text = Base64.getEncoder().encodeToString(bytes.toByteArray());
                System.out.println(name + " " + text + " " + read(bytes.toByteArray(), after));
            }
        }
        try (URLClassLoader after = loader(root, "new"); Stream<Path> files = Files.walk(root.resolve("new-classes"))) {
            for (Path file : (Iterable<Path>) files.filter(each -> each.toString().endsWith(".class"))::iterator) {
                String name = root.resolve("new-classes").relativize(file).toString().replace('/', '.');
                Class<?> found = Class.forName(name.substring(0, name.length() - 6), false, after);
                ObjectStreamClass version = ObjectStreamClass.lookup(found);
                System.out.println("# " + found.getName() + " " + (version == null ? "none" : version.getSerialVersionUID()));
            }
        }
        System.exit(0);
    }

    static Object instance(ClassLoader loader, String name) throws Exception {
        var constructor = Class.forName(name, true, loader).getDeclaredConstructor();
        constructor.setAccessible(true);
        return constructor.newInstance();
    }

    static void compile(Path root, String which) throws Exception {
        List<String> argv = new ArrayList<>(List.of("-nowarn", "-proc:none", "-d", root.resolve(which + "-classes").toString()));
        try (Stream<Path> files = Files.walk(root.resolve(which))) {
            files.filter(each -> each.toString().endsWith(".java")).map(Path::toString).forEach(argv::add);
        }
        int code = ToolProvider.getSystemJavaCompiler().run(null, null, null, argv.toArray(new String[0]));
        if (code != 0) throw new IllegalStateException("javac: " + code);
    }

    static URLClassLoader loader(Path root, String which) throws Exception {
        return new URLClassLoader(new URL[] {root.resolve(which + "-classes").toUri().toURL()});
    }

    static String read(byte[] bytes, ClassLoader loader) {
        try (ObjectInputStream in = new ObjectInputStream(new ByteArrayInputStream(bytes)) {
            @Override protected Class<?> resolveClass(ObjectStreamClass found) throws ClassNotFoundException {
                return Class.forName(found.getName(), false, loader);
            }
            @Override protected Class<?> resolveProxyClass(String[] names) throws ClassNotFoundException {
                Class<?>[] found = new Class<?>[names.length];
                for (int i = 0; i < names.length; i++) found[i] = Class.forName(names[i], false, loader);
                return java.lang.reflect.Proxy.getProxyClass(loader, found);
            }
        }) {
            return "ok " + dump(in.readObject(), 0);
        } catch (Throwable t) {
            return "failed " + t.toString().replace('\n', ' ');
        }
    }

    static String dump(Object object, int depth) throws Exception {
        if (object == null || depth > 4 || object instanceof Enum || object instanceof Class) return String.valueOf(object);
        if (object.getClass().isArray()) return "array of " + java.lang.reflect.Array.getLength(object);
        if (object.getClass().getClassLoader() == null) return String.valueOf(object);
        List<String> parts = new ArrayList<>();
        for (Class<?> c = object.getClass(); c != null && c.getClassLoader() != null; c = c.getSuperclass()) {
            for (Field field : c.getDeclaredFields()) {
                if (Modifier.isStatic(field.getModifiers())) continue;
                field.setAccessible(true);
                parts.add(field.getName() + "=" + dump(field.get(object), depth + 1));
            }
        }
        return parts.stream().sorted().collect(Collectors.joining(" "));
    }
}
