/* Looks names up by c-ares, as Node and Envoy do: one channel, which keeps its sockets and so its source ports.
   Prints for each: name, microseconds, addresses. `+FLAGS` before the names stands for flags of the channel: `v` for TCP
   (USEVC), `e` for EDNS, nothing for none of both; without, they are the library's own. */
#include <ares.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>

static long micros(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

struct lookup {
    const char *name;
    long start;
};

static void done(void *arg, int status, int timeouts, struct ares_addrinfo *found)
{
    struct lookup *lookup = arg;
    printf("%s %ld", lookup->name, micros() - lookup->start);
    if (status != ARES_SUCCESS)
        printf(" %s", ares_strerror(status));
    if (timeouts)
        printf(" %d time-outs", timeouts);
    for (struct ares_addrinfo_node *at = found ? found->nodes : NULL; at; at = at->ai_next) {
        char text[64];
        getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
        printf(" %s", text);
    }
    putchar('\n');
    ares_freeaddrinfo(found);
}

int main(int argc, char **argv)
{
    ares_channel channel;
    struct ares_options options = {0};
    int mask = 0, first = 1;
    if (argc > 1 && argv[1][0] == '+') {
        options.flags = (strchr(argv[1], 'v') ? ARES_FLAG_USEVC : 0) | (strchr(argv[1], 'e') ? ARES_FLAG_EDNS : 0);
        mask = ARES_OPT_FLAGS;
        first = 2;
    }
    if (ares_library_init(ARES_LIB_INIT_ALL) || ares_init_options(&channel, &options, mask))
        return 1;
    for (int i = first; i < argc; i++) {
        struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT, .ai_family = AF_UNSPEC};
        struct lookup lookup = {argv[i], micros()};
        ares_getaddrinfo(channel, argv[i], NULL, &hints, done, &lookup);
        for (;;) {
            fd_set readers, writers;
            struct timeval wait;
            FD_ZERO(&readers);
            FD_ZERO(&writers);
            int count = ares_fds(channel, &readers, &writers);
            /* Open sockets without a query have no time-out. */
            if (!count || !ares_timeout(channel, NULL, &wait))
                break;
            select(count, &readers, &writers, NULL, &wait);
            ares_process(channel, &readers, &writers);
        }
    }
    ares_destroy(channel);
    return 0;
}
