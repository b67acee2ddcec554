package com.example.shop;

import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpSession;
import java.io.IOException;

/** A shop with a login and a cart, as many are: it knows nothing of where its sessions are kept. */
public class ShopServlet extends ReleaseServlet {
    @Override
    protected void answer(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        response.setContentType("text/html");
        response.setCharacterEncoding("UTF-8");
        switch (request.getMethod() + " " + request.getServletPath()) {
            case "GET /health" -> response.getWriter().print("up");
            case "GET /login" -> response.getWriter().print("<h1>Please log in</h1>");
            case "POST /login" -> login(request, response);
            case "GET /cart" -> show(request, response);
            case "POST /cart" -> add(request, response);
            default -> response.sendError(404);
        }
    }

    private static void login(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        String user = request.getParameter("user");
        String password = request.getParameter("password");
        if (user == null || !user.matches("[A-Za-z0-9-]+") || !"open sesame".equals(password)) {
            response.sendError(403);
            return;
        }
        HttpSession session = request.getSession(true);
        session.setAttribute("user", new User(user));
        session.setAttribute("preferences", new Preferences());
        session.setAttribute("cart", new Cart());
        response.sendRedirect("/cart");
    }

    /** A session that is not there is never made here: its user has to log in. */
    private static void show(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        HttpSession session = request.getSession(false);
        User user = session == null ? null : (User) session.getAttribute("user");
        if (user == null) {
            response.sendRedirect("/login");
            return;
        }
        Cart cart = (Cart) session.getAttribute("cart");
        Preferences preferences = (Preferences) session.getAttribute("preferences");
        StringBuilder page = new StringBuilder("<h1>Hello " + user.name() + "</h1>\n<ul>\n");
        for (CartLine line : cart.lines()) {
            page.append("<li>" + line.count() + " x " + line.item() + "</li>\n");
        }
        page.append("</ul>\n<p>Prices in " + preferences.currency() + "</p>\n");
        response.getWriter().print(page);
    }

    private static void add(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        HttpSession session = request.getSession(false);
        Cart cart = session == null ? null : (Cart) session.getAttribute("cart");
        String item = request.getParameter("item");
        if (cart == null || item == null || !item.matches("[a-z0-9-]+")) {
            response.sendRedirect("/login");
            return;
        }
        cart.add(item);
        session.setAttribute("cart", cart);
        response.sendRedirect("/cart");
    }
}
