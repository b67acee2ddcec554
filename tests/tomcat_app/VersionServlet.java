import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;

/** Answers which version it was packed with. */
public class VersionServlet extends HttpServlet {
    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        try (InputStream version = VersionServlet.class.getResourceAsStream("/version.txt")) {
            String text = new String(version.readAllBytes(), StandardCharsets.UTF_8);
            response.setContentType("text/plain");
            response.setHeader("X-Version", text);
            response.getWriter().print(text);
        }
    }
}
