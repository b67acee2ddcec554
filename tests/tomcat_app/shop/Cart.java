package com.example.shop;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;

/** What a user wants to buy. No version is declared, as in most applications. */
public class Cart implements Serializable {
    private final List<CartLine> lines = new ArrayList<>();

    public void add(String item) {
        for (CartLine line : lines) {
            if (line.item().equals(item)) {
                line.more();
                return;
            }
        }
        CartLine line = new CartLine(item);
        line.more();
        lines.add(line);
    }

    public List<CartLine> lines() {
        return lines;
    }
}
