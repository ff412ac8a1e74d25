import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioDatagramChannel;
import io.netty.resolver.dns.DnsNameResolver;
import io.netty.resolver.dns.DnsNameResolverBuilder;
import java.net.InetAddress;

/**
 * Looks names up by Netty and prints for each: name, microseconds, addresses. All queries leave from its one socket;
 * search list and servers are resolv.conf's.
 */
class NettyLookups {
    public static void main(String[] names) throws Exception {
        NioEventLoopGroup group = new NioEventLoopGroup(1);
        DnsNameResolver resolver =
                new DnsNameResolverBuilder(group.next())
                        .channelType(NioDatagramChannel.class)
                        .build();
        for (String name : names) {
            StringBuilder line = new StringBuilder(name);
            long start = System.nanoTime();
            var found = resolver.resolveAll(name).await();
            line.append(' ').append((System.nanoTime() - start) / 1000);
            if (found.isSuccess()) {
                for (InetAddress address : found.getNow()) {
                    line.append(' ').append(address.getHostAddress());
                }
            } else {
                line.append(' ').append(found.cause());
            }
            System.out.println(line);
        }
        resolver.close();
        group.shutdownGracefully();
    }
}
