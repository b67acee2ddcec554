package com.example.shop;

import java.io.Serializable;
import java.util.Locale;

/** How a user wants to see the shop. */
public class Preferences implements Serializable {
    private final Locale language = Locale.GERMANY;
    private final String currency = "EUR";

    public String currency() {
        return currency;
    }

    public Locale language() {
        return language;
    }
}
