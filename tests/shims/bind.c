// Preloaded into the recorder: right after it has bound a socket to a path, does what somebody else might who may
// write the folder. The number in the file that SHIM_BIND names says what: 0 puts a link to that file in its place,
// 1 takes the permissions of the group away, as a default ACL does.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int bind(int fd, const struct sockaddr *address, socklen_t length) {
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (!real) real = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "bind");
    int result = real(fd, address, length);
    const char *name = ((const struct sockaddr_un *)address)->sun_path;
    const char *path = getenv("SHIM_BIND");
    if (result || !path || address->sa_family != AF_UNIX || !name[0]) return result;
    char number = '0';
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, &number, 1) != 1) abort();
    close(file);
    if (number == '0' ? unlink(name) || symlink(path, name) : chmod(name, 0600)) abort();
    return result;
}
