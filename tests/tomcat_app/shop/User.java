package com.example.shop;

import java.io.Serializable;

/** Who is logged in. Its version is declared, so it may grow without losing anybody. */
public class User implements Serializable {
    private static final long serialVersionUID = 1L;

    private final String name;

    public User(String name) {
        this.name = name;
    }

    public String name() {
        return name;
    }
}
