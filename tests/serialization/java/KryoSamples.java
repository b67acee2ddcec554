package com.shop;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.UUID;
import org.redisson.codec.Kryo5Codec;
import org.redisson.codec.SerializationCodec;

/** Prints `name base64` for values as Redisson's codecs write them. */
public class KryoSamples {
    public static class Line { int count = 3; String text = "com.shop.NotAClass"; boolean yes = true; Object more = "x"; }
    public static class AClassWithARatherLongNameThatIsLongerThanAnyStringKryoWritesAsAscii { int a = 1; Line line = new Line(); }
    public static class Cart { List<Object> lines = new ArrayList<>(List.of(new Line(), new Line())); Size size = Size.BIG; Line[] fixed = {new Line()}; Object day = new Date(0); }
    public enum Size { BIG }
    public static class Gr\u00f6\u00dfe { int a = 1; Object line = new Line(); }

    public static void main(String[] args) throws Exception {
        Map<String, Object> values = new LinkedHashMap<>();
        values.put("cart", new Cart());
        values.put("line", new Line());
        values.put("long-name", new AClassWithARatherLongNameThatIsLongerThanAnyStringKryoWritesAsAscii());
        values.put("list", new ArrayList<>(List.of("com.shop.NotAClass", 1, new Line())));
        values.put("array", new Line[] {new Line()});
        values.put("enum", Size.BIG);
        values.put("map", new HashMap<>(Map.of("a", new Line())));
        values.put("umlaut", new Gr\u00f6\u00dfe());
        values.put("uuid", new UUID(1, 2));
        values.put("decimal", new BigDecimal("1.5"));
        values.put("set", new TreeSet<>(List.of(1)));
        values.put("as-list", Arrays.asList(1, new Line()));
        values.put("date", new Date(0));
        values.put("long", 1234567890123L);
        values.put("int", -5);
        values.put("true", true);
        values.put("double", 1.5);
        values.put("string", "Example");
        values.put("class-like-string", "com.shop.Cart");
        values.put("long-string", "x".repeat(300));
        values.put("other-string", "gr\u00f6\u00dfer \u6f22");
        values.put("one-letter", "x");
        values.put("empty", "");
        Kryo5Codec kryo = new Kryo5Codec();
        Kryo5Codec references = new Kryo5Codec(null, java.util.Collections.emptySet(), true);
        for (Map.Entry<String, Object> each : values.entrySet()) {
            print(each.getKey(), kryo.getValueEncoder().encode(each.getValue()));
            print(each.getKey() + "+references", references.getValueEncoder().encode(each.getValue()));
        }
        print("java", new SerializationCodec().getValueEncoder().encode(1));
        System.exit(0);
    }

    static void print(String name, ByteBuf bytes) {
        System.out.println(name + " " + Base64.getEncoder().encodeToString(ByteBufUtil.getBytes(bytes)));
    }
}
