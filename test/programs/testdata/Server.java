import com.sun.net.httpserver.HttpServer;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

/** The HTTP/1.1 server of the JDK. */
public class Server {
    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("::", 8000), 0);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/", exchange -> {
            int size = exchange.getRequestBody().readAllBytes().length;
            String from = exchange.getRemoteAddress().getAddress().getHostAddress();
            String text = exchange.getRequestMethod() + " " + exchange.getRequestURI() + " " + size + " "
                + exchange.getRequestHeaders().getFirst("X-Field") + "\n";
            boolean chunked = exchange.getRequestURI().getPath().equals("/chunked");
            boolean none = exchange.getRequestMethod().equals("HEAD");
            exchange.getResponseHeaders().add("X-From", Integer.toString(from.length() > 0 ? 1 : 0));
            exchange.sendResponseHeaders(200, none ? -1 : chunked ? 0 : text.length());
            try (OutputStream out = exchange.getResponseBody()) {
                if (!none) out.write(text.getBytes());
                for (int i = 0; chunked && i < 100; i++) out.write(new byte[1000]);
            }
        });
        server.start();
    }
}
