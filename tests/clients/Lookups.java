import java.net.InetAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Hashtable;
import java.util.List;
import javax.naming.directory.InitialDirContext;

/**
 * Looks names up by the JDK and prints for each: name, microseconds, addresses. `inet` goes by InetAddress and the C library,
 * `jndi` by the JDK's own resolver, which knows no search list.
 */
class Lookups {
    interface Way {
        List<String> addresses(String name) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Way way = arguments[0].equals("inet") ? Lookups::inet : jndi();
        for (String name : Arrays.asList(arguments).subList(1, arguments.length)) {
            long start = System.nanoTime();
            String found;
            try {
                found = String.join(" ", way.addresses(name));
            } catch (Exception error) {
                found = error.toString();
            }
            System.out.println(name + " " + (System.nanoTime() - start) / 1000 + " " + found);
        }
    }

    static List<String> inet(String name) throws Exception {
        List<String> found = new ArrayList<>();
        for (InetAddress address : InetAddress.getAllByName(name)) {
            found.add(address.getHostAddress());
        }
        return found;
    }

    /** Its servers are resolv.conf's. */
    static Way jndi() throws Exception {
        Hashtable<String, String> settings = new Hashtable<>();
        settings.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
        // Its own 1 s is not much on a busy machine.
        settings.put("com.sun.jndi.dns.timeout.initial", "10000");
        settings.put("com.sun.jndi.dns.timeout.retries", "1");
        InitialDirContext servers = new InitialDirContext(settings);
        return name -> {
            List<String> found = new ArrayList<>();
            for (String type : new String[] {"A", "AAAA"}) {
                String[] types = {type};
                var values = servers.getAttributes(name + ".svc.cluster.local", types).get(type).getAll();
                while (values.hasMore()) {
                    found.add((String) values.next());
                }
            }
            return found;
        };
    }
}
