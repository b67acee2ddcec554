import com.example.shop.Cart;
import com.example.shop.Preferences;
import com.example.shop.User;
import com.orangefunction.tomcat.redissessions.SessionSerializationMetadata;
import java.io.ByteArrayOutputStream;
import java.io.ObjectOutputStream;
import java.security.MessageDigest;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Prints the session of one user of the shop as com.orangefunction's manager stores it on Tomcat 7:
 * its own digest, the fields of Tomcat's session, the attributes, the time of creation once more.
 */
public class StoreForm {
    /** Arguments: the session's id, when it was created, when it was last asked for. */
    public static void main(String[] arguments) throws Exception {
        Cart cart = new Cart();
        cart.add("book-1");
        Map<String, Object> attributes = new ConcurrentHashMap<>();
        attributes.put("user", new User("ann"));
        attributes.put("preferences", new Preferences());
        attributes.put("cart", cart);
        String id = arguments[0];
        long created = Long.parseLong(arguments[1]);
        long accessed = Long.parseLong(arguments[2]);
        byte[] stored = stored(id, created, accessed, attributes);
        System.out.println(Base64.getEncoder().encodeToString(stored));
    }

    private static byte[] stored(
            String id, long created, long accessed, Map<String, Object> attributes)
            throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
            out.writeObject(new SessionSerializationMetadata(digest(attributes)));
            out.writeObject(Long.valueOf(created));
            out.writeObject(Long.valueOf(created));
            out.writeObject(Integer.valueOf(1_800));
            out.writeObject(Boolean.TRUE);
            out.writeObject(Boolean.TRUE);
            out.writeObject(Long.valueOf(accessed));
            out.writeObject(id);
            out.writeObject(null);
            out.writeObject(null);
            out.writeObject(Integer.valueOf(attributes.size()));
            for (Map.Entry<String, Object> attribute : attributes.entrySet()) {
                out.writeObject(attribute.getKey());
                out.writeObject(attribute.getValue());
            }
            out.writeLong(created);
        }
        return bytes.toByteArray();
    }

    private static byte[] digest(Map<String, Object> attributes) throws Exception {
        // Grown, not copied: how large a map has grown stands in what it writes.
        Map<String, Object> grown = new HashMap<>();
        attributes.forEach(grown::put);
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
            out.writeUnshared(grown);
        }
        return MessageDigest.getInstance("MD5").digest(bytes.toByteArray());
    }
}
