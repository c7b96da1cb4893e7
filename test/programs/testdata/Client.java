import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** The HTTP client of the JDK. With HTTP_2, its default, it asks for an upgrade to h2c. */
public class Client {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.valueOf(args[1])).build();
        show(client, args[0], HttpRequest.newBuilder().uri(URI.create(args[0] + "/a?b=c")).header("X-Field", "v"));
        show(client, args[0], HttpRequest.newBuilder().uri(URI.create(args[0] + "/post")).POST(BodyPublishers.ofByteArray(new byte[200000])));
        show(client, args[0], HttpRequest.newBuilder().uri(URI.create(args[0] + "/continue")).expectContinue(true).PUT(BodyPublishers.ofString("hello")));
        show(client, args[0], HttpRequest.newBuilder().uri(URI.create(args[0] + "/chunked")));
        show(client, args[0], HttpRequest.newBuilder().uri(URI.create(args[0] + "/head")).method("HEAD", BodyPublishers.noBody()));
        List<CompletableFuture<HttpResponse<String>>> all = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            all.add(client.sendAsync(HttpRequest.newBuilder().uri(URI.create(args[0] + "/n" + i)).build(), BodyHandlers.ofString()));
        }
        int good = 0;
        for (CompletableFuture<HttpResponse<String>> f : all) good += f.get().statusCode() == 200 ? 1 : 0;
        System.out.println(good);
    }

    static void show(HttpClient client, String base, HttpRequest.Builder request) throws Exception {
        HttpResponse<byte[]> r = client.send(request.build(), BodyHandlers.ofByteArray());
        String text = new String(r.body());
        System.out.println(r.version() + " " + r.statusCode() + " " + r.body().length + " " + text.lines().findFirst().orElse(""));
    }
}
