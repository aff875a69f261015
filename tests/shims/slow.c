// Preloaded into the recorder: a read of a sensor's file takes as long as SHIM_SLOW's file says in milliseconds where
// its path has "slow" in it, as a driver of 1-wire does, which sleeps in the read; and where it has "hangs", for as
// long as the file says 0.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long number(void) {
    char text[32] = {0};
    const char *path = getenv("SHIM_SLOW");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return 0;
    long number = fgets(text, sizeof text, file) ? atol(text) : 0;
    fclose(file);
    return number;
}

static void nap(int fd) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return;
    path[length] = 0;
    if (!strstr(path, "temp1_input")) return;
    while (strstr(path, "hangs") && !number()) usleep(20000);
    if (!strstr(path, "slow")) return;
    long ms = number();
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

ssize_t read(int fd, void *to, size_t bytes) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    nap(fd);
    return real(fd, to, bytes);
}

ssize_t pread64(int fd, void *to, size_t bytes, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = (ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    nap(fd);
    return real(fd, to, bytes, at);
}
