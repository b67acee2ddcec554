package com.orangefunction.tomcat.redissessions;

import java.io.IOException;
import java.io.ObjectOutputStream;
import java.io.Serializable;

/**
 * What stands before every session: a digest of its attributes, written by hand beside the field.
 *
 * <p>The manager's own class declares no version; this is the one that the JDK works out for it.
 */
public class SessionSerializationMetadata implements Serializable {
    private static final long serialVersionUID = 4817120933319990092L;

    private final byte[] sessionAttributesHash;

    public SessionSerializationMetadata(byte[] digest) {
        sessionAttributesHash = digest;
    }

    private void writeObject(ObjectOutputStream out) throws IOException {
        out.writeInt(sessionAttributesHash.length);
        out.write(sessionAttributesHash);
    }
}
