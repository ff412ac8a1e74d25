/* Looks names up by the C library, as most programs do, and prints for each: name, microseconds, addresses. */
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

static long micros(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
        long start = micros();
        int error = getaddrinfo(argv[i], NULL, &hints, &found);
        printf("%s %ld", argv[i], micros() - start);
        if (error)
            printf(" %s", gai_strerror(error));
        for (struct addrinfo *at = found; at; at = at->ai_next) {
            char text[64];
            getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
            printf(" %s", text);
        }
        putchar('\n');
        if (found)
            freeaddrinfo(found);
    }
    return 0;
}
