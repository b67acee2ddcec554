package com.example.shop;

import java.io.Serializable;

/** So many of one item. */
public class CartLine implements Serializable {
    private final String item;
    private int count;

    public CartLine(String item) {
        this.item = item;
    }

    public String item() {
        return item;
    }

    public int count() {
        return count;
    }

    public void more() {
        count++;
    }
}
