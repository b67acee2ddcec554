package com.example.shop;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;

/** What says with every answer which release gave it, on which Tomcat. */
public abstract class ReleaseServlet extends HttpServlet {
    protected String version;

    @Override
    public void init() throws ServletException {
        try (InputStream text = ReleaseServlet.class.getResourceAsStream("/version.txt")) {
            version = new String(text.readAllBytes(), StandardCharsets.UTF_8).strip();
        } catch (IOException problem) {
            throw new ServletException(problem);
        }
    }

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        response.setHeader("X-Version", version);
        response.setHeader("X-Backend", "tomcat-" + request.getLocalPort());
        answer(request, response);
    }

    protected abstract void answer(HttpServletRequest request, HttpServletResponse response)
            throws IOException;
}
