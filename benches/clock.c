// Sleeps to a grid of milliseconds so many times, and then prints by how many microseconds each wake was late.

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { STEP_NS = 1000000, SECOND_NS = 1000000000 };

static long long monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (long long)SECOND_NS + now.tv_nsec;
}

int main(int count, char **arguments) {
    int wakes = count == 2 ? atoi(arguments[1]) : 0;
    long long *late = calloc(wakes + 1, sizeof *late), due = monotonic();
    if (!late) return 1;
    for (int n = 0; n < wakes; n++) {
        due += STEP_NS;
        struct timespec until = {due / SECOND_NS, due % SECOND_NS};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) {}
        late[n] = monotonic() - due;
    }
    for (int n = 0; n < wakes; n++) printf("%.3f\n", late[n] / 1e3);
    return 0;
}
