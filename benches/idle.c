// A process that does nothing but wake once a second, and ends at SIGTERM, also as the first of a container.

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void end(int signal) { _exit(signal - SIGTERM); }

int main(void) {
    signal(SIGTERM, end);
    fputs("event=ready \n", stderr);
    for (;;) sleep(1);
}
