package com.example.shop;

import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpSession;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/**
 * A shop for users with a session: what a demo load asks for, with the session where Tomcat puts it.
 *
 * <p>It knows nothing of Redis: a counter lives in the HttpSession, as in any application.
 */
public class CountingServlet extends ReleaseServlet {
    private static final int SLOW_MAX_MS = 60_000;

    @Override
    protected void answer(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        response.setContentType("application/json");
        switch (request.getMethod() + " " + request.getServletPath()) {
            case "GET /health" -> say(response, "{\"status\": \"up\", \"version\": \"%s\"}", version);
            case "POST /login" -> login(request, response);
            case "GET /cart" -> cart(request.getSession(false), 0, response);
            case "POST /cart" -> cart(request.getSession(false), 1, response);
            case "GET /slow", "POST /slow" -> slow(request, response);
            case "POST /upload", "PUT /upload" -> upload(request.getInputStream(), response);
            default -> {
                response.setStatus(404);
                say(response, "{\"error\": \"nothing here\"}");
            }
        }
    }

    private static void login(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        String user = request.getParameter("user");
        if (user == null || !user.matches("[A-Za-z0-9]+")) {
            response.setStatus(400);
            say(response, "{\"error\": \"who?\"}");
            return;
        }
        HttpSession session = request.getSession(true);
        session.setAttribute("user", user);
        session.setAttribute("counter", 0);
        say(response, "{\"user\": \"%s\", \"counter\": 0}", user);
    }

    /** A session that is not there is never made here: its loss must be seen. */
    private static void cart(HttpSession session, int more, HttpServletResponse response)
            throws IOException {
        Object user = session == null ? null : session.getAttribute("user");
        Object counter = session == null ? null : session.getAttribute("counter");
        if (user == null || counter == null) {
            say(response, "{\"user\": null, \"counter\": 0}");
            return;
        }
        int value = (Integer) counter + more;
        if (more > 0) {
            session.setAttribute("counter", value);
        }
        say(response, "{\"user\": \"%s\", \"counter\": %d}", user, value);
    }

    private static void slow(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        int slowMs = Math.min(Integer.parseInt(request.getParameter("ms")), SLOW_MAX_MS);
        try {
            Thread.sleep(slowMs);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IOException(interrupted);
        }
        say(response, "{\"slow_ms\": %d}", slowMs);
    }

    private static void upload(InputStream body, HttpServletResponse response) throws IOException {
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
        byte[] piece = new byte[65_536];
        long length = 0;
        for (int count = body.read(piece); count >= 0; count = body.read(piece)) {
            digest.update(piece, 0, count);
            length += count;
        }
        String sha256 = HexFormat.of().formatHex(digest.digest());
        say(response, "{\"length\": %d, \"sha256\": \"%s\"}", length, sha256);
    }

    private static void say(HttpServletResponse response, String form, Object... values)
            throws IOException {
        byte[] body = (String.format(form, values) + "\n").getBytes(StandardCharsets.UTF_8);
        response.setContentLength(body.length);
        response.getOutputStream().write(body);
    }
}
