import java.io.DataOutputStream;
import java.io.File;
import java.io.InputStream;
import java.io.ObjectStreamClass;
import java.io.PrintStream;
import java.net.URI;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.jar.JarFile;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;

/**
 * Writes what this Java answers for every serializable class it can load.
 * Arguments: folder for the answers, then jars; all jars are on one class path.
 * `base.jar` and `base.txt` hold java.base; `jars.txt` the jars. A line is `uid name`.
 */
public class Versions {
    public static void main(String[] args) throws Exception {
        Path out = Path.of(args[0]);
        base(out);
        List<URL> urls = new ArrayList<>();
        for (int i = 1; i < args.length; i++) urls.add(new File(args[i]).toURI().toURL());
        try (PrintStream lines = new PrintStream(out.resolve("jars.txt").toFile(), "UTF-8");
                URLClassLoader loader = new URLClassLoader(urls.toArray(new URL[0]))) {
            for (int i = 1; i < args.length; i++) {
                try (JarFile jar = new JarFile(args[i])) {
                    for (String name : (Iterable<String>) jar.stream().map(ZipEntry::getName)::iterator) {
                        if (name.endsWith(".class") && !name.startsWith("META-INF/")) {
                            answer(lines, name, loader);
                        }
                    }
                }
            }
        }
        System.out.println("done");
        System.exit(0); // a static initialiser may have started threads
    }

    static void base(Path out) throws Exception {
        Path root = FileSystems.getFileSystem(URI.create("jrt:/")).getPath("/modules/java.base");
        try (PrintStream lines = new PrintStream(out.resolve("base.txt").toFile(), "UTF-8");
                ZipOutputStream jar = new ZipOutputStream(Files.newOutputStream(out.resolve("base.jar")));
                Stream<Path> paths = Files.walk(root)) {
            jar.setMethod(ZipOutputStream.DEFLATED);
            jar.setLevel(1);
            for (Path path : (Iterable<Path>) paths::iterator) {
                String name = root.relativize(path).toString();
                if (!name.endsWith(".class") || name.equals("module-info.class")) continue;
                jar.putNextEntry(new ZipEntry(name));
                jar.write(Files.readAllBytes(path));
                jar.closeEntry();
                answer(lines, name, null);
            }
        }
    }

    static void answer(PrintStream lines, String entry, ClassLoader loader) {
        String name = entry.substring(0, entry.length() - 6).replace('/', '.');
        try {
            ObjectStreamClass found = ObjectStreamClass.lookup(Class.forName(name, false, loader));
            if (found != null) lines.println(found.getSerialVersionUID() + " " + name);
        } catch (Throwable t) {
            // A relative is absent, or a static initialiser fails: Java has no answer, nor need we.
        }
    }
}
