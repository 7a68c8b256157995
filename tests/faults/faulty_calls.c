// Preloaded into a process: the Nth call that changes files below a directory fails, or kills the process.
//
// Calls counted: write, pwrite, fsync, fdatasync, rename, ftruncate, of files whose path begins with the root.
// arm() says which call and how; calls() how many there were. Only ever loaded by tests (fault_server.py).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { COUNT, KILL, ONCE, FROM_THERE_ON, SHORT };

static char root[PATH_MAX];
static size_t root_length;
static long counted, target;
static int manner, fails_with;

void arm(const char *directory, long call, int how, int error) {
    root_length = strlen(directory);
    memcpy(root, directory, root_length + 1);
    target = call, manner = how, fails_with = error;
    __sync_lock_test_and_set(&counted, 0);
}

long calls(void) { return counted; }

static int below_root(const char *path) {
    char full[2 * PATH_MAX] = "";
    if (root_length == 0) return 0;
    if (path[0] != '/') {
        if (getcwd(full, PATH_MAX) == NULL) return 0;
        strcat(full, "/");
    }
    strncat(full, path, PATH_MAX);
    return strncmp(full, root, root_length) == 0;
}

static int is_below_root(int descriptor) {
    char link[64], path[PATH_MAX];
    if (root_length == 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strncmp(path, root, root_length) == 0;
}

// Whether this call is the one; a full disk refuses only what takes room, other errors everything.
static int meets(int takes_room) {
    long now = __sync_add_and_fetch(&counted, 1);
    if (manner == COUNT || (now != target && !(manner == FROM_THERE_ON && now > target))) return 0;
    return fails_with != ENOSPC || takes_room || manner == KILL || manner == SHORT;
}

static void die(void) { kill(getpid(), SIGKILL); pause(); }

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define REFUSE do { errno = fails_with; return -1; } while (0)

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(write);
    if (is_below_root(descriptor) && meets(1)) {
        if (manner != KILL && manner != SHORT) REFUSE;
        ssize_t done = real(descriptor, data, size > 1 ? size / 2 : size);  // a kill in its midst leaves half
        if (manner == KILL) die();
        return done;
    }
    return real(descriptor, data, size);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t place) {
    REAL(pwrite64);
    if (is_below_root(descriptor) && meets(1)) {
        if (manner != KILL && manner != SHORT) REFUSE;
        ssize_t done = real(descriptor, data, size > 1 ? size / 2 : size, place);
        if (manner == KILL) die();
        return done;
    }
    return real(descriptor, data, size, place);
}

#define OF_DESCRIPTOR(name, parameters, arguments)                 \
    int name parameters {                                          \
        REAL(name);                                                \
        if (is_below_root(descriptor) && meets(0)) {               \
            if (manner == KILL) die();                             \
            if (manner != SHORT) REFUSE;                           \
        }                                                          \
        return real arguments;                                     \
    }

OF_DESCRIPTOR(fsync, (int descriptor), (descriptor))
OF_DESCRIPTOR(fdatasync, (int descriptor), (descriptor))
OF_DESCRIPTOR(ftruncate64, (int descriptor, off64_t size), (descriptor, size))

int rename(const char *old, const char *new) {
    REAL(rename);
    if (below_root(new) && meets(0)) {
        if (manner == KILL) die();
        if (manner != SHORT && fails_with != EINTR) REFUSE;
    }
    return real(old, new);
}
