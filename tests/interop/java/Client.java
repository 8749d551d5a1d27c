import java.io.FileInputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.security.KeyStore;
import java.security.cert.X509Certificate;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedTrustManager;

/**
 * Connects again and again with one SSLContext, as Java programs do, whose sessions JSSE then resumes by default.
 * Arguments: keystore (PKCS12), its password, port, protocol, how often. A line for each connection:
 * protocol, session id or '-', creation time of the session, and what the server said; or the error.
 */
public final class Client {
    /** Trust is not what is tried here: the tests look at what the server makes of this client. */
    private static final class Anybody extends X509ExtendedTrustManager {
        @Override public void checkClientTrusted(X509Certificate[] chain, String type) {}
        @Override public void checkServerTrusted(X509Certificate[] chain, String type) {}
        @Override public void checkClientTrusted(X509Certificate[] chain, String type, java.net.Socket socket) {}
        @Override public void checkServerTrusted(X509Certificate[] chain, String type, java.net.Socket socket) {}
        @Override public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}
        @Override public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}
        @Override public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
    }

    public static void main(String[] arguments) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        char[] password = arguments[1].toCharArray();
        try (InputStream file = new FileInputStream(arguments[0])) {
            store.load(file, password);
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store, password);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), new TrustManager[] {new Anybody()}, null);
        for (int turn = 0; turn < Integer.parseInt(arguments[4]); turn++) {
            try (SSLSocket socket =
                    (SSLSocket) context.getSocketFactory().createSocket("127.0.0.1", Integer.parseInt(arguments[2]))) {
                socket.setSoTimeout(30_000);
                if (!arguments[3].equals("default")) {
                    socket.setEnabledProtocols(new String[] {arguments[3]});
                }
                socket.startHandshake();
                OutputStream out = socket.getOutputStream();
                out.write("ping".getBytes("US-ASCII"));
                out.flush();
                byte[] answer = socket.getInputStream().readAllBytes();
                SSLSession session = socket.getSession();
                System.out.println("OK " + session.getProtocol() + " " + session.getCreationTime() + " "
                        + session.getCipherSuite() + " " + new String(answer, "US-ASCII"));
            } catch (java.io.IOException error) {
                System.out.println("ERROR " + error);
            }
            Thread.sleep(20); // the time at which a session was made, in milliseconds, tells sessions apart
        }
    }
}
