// Preloaded into a process: the Nth call that changes files below a directory fails, or kills the process, or
// has a signal come to it (SIGNAL: `error` is its number).
//
// Calls counted: write, writev, pwrite, fsync, fdatasync, rename, truncate, ftruncate, of files whose path begins with
// the root; and apart from these the removals: unlink, unlinkat, rmdir, at which a process dies but nothing is refused.
// READS_FAIL: every read and pread of such files from the Nth on is refused, and nothing else.
// arm() says which call and how; calls(), removals() and reads() how many there were. Only ever loaded by fault_server.py.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, ONCE, FROM_THERE_ON, SHORT, KILL_AT_REMOVAL, SIGNAL, SIGNAL_TWICE, READS_FAIL };

static char root[PATH_MAX];
static size_t root_length;
static long counted, removed, were_read, target;
static int manner, fails_with;

void arm(const char *directory, long call, int how, int error) {
    root_length = strlen(directory);
    memcpy(root, directory, root_length + 1);
    target = call, manner = how, fails_with = error;
    __sync_lock_test_and_set(&counted, 0);
    __sync_lock_test_and_set(&removed, 0);
    __sync_lock_test_and_set(&were_read, 0);
}

long calls(void) { return counted; }

long removals(void) { return removed; }

long reads(void) { return were_read; }

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

static int below_root_at(int directory, const char *path) {
    return path[0] == '/' || directory == AT_FDCWD ? below_root(path) : is_below_root(directory);
}

// Whether this call is the one; a full disk refuses only what takes room, other errors everything.
static int meets(int takes_room) {
    long now = __sync_add_and_fetch(&counted, 1);
    if (manner == SIGNAL || manner == SIGNAL_TWICE) {
        if (now == target || (manner == SIGNAL_TWICE && now == target + 1)) kill(getpid(), fails_with);
        return 0;
    }
    if (manner == COUNT || manner == KILL_AT_REMOVAL || manner == READS_FAIL) return 0;
    if (now != target && !(manner == FROM_THERE_ON && now > target)) return 0;
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

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(writev);
    if (is_below_root(descriptor) && meets(1)) {
        if (manner != KILL && manner != SHORT) REFUSE;
        ssize_t done = real(descriptor, parts, 1);
        if (manner == KILL) die();
        return done;
    }
    return real(descriptor, parts, count);
}

#define OF_PLACE(name, offset)                                                                  \
    ssize_t name(int descriptor, const void *data, size_t size, offset place) {                 \
        REAL(name);                                                                             \
        if (is_below_root(descriptor) && meets(1)) {                                            \
            if (manner != KILL && manner != SHORT) REFUSE;                                      \
            ssize_t done = real(descriptor, data, size > 1 ? size / 2 : size, place);           \
            if (manner == KILL) die();                                                          \
            return done;                                                                        \
        }                                                                                       \
        return real(descriptor, data, size, place);                                             \
    }

OF_PLACE(pwrite, off_t)
OF_PLACE(pwrite64, off64_t)

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
OF_DESCRIPTOR(ftruncate, (int descriptor, off_t size), (descriptor, size))
OF_DESCRIPTOR(ftruncate64, (int descriptor, off64_t size), (descriptor, size))

#define OF_NAME(name, parameters, arguments, changed)               \
    int name parameters {                                           \
        REAL(name);                                                 \
        if (below_root(changed) && meets(0)) {                      \
            if (manner == KILL) die();                              \
            if (manner != SHORT && fails_with != EINTR) REFUSE;     \
        }                                                           \
        return real arguments;                                      \
    }

OF_NAME(rename, (const char *old, const char *new), (old, new), new)
OF_NAME(truncate, (const char *path, off_t size), (path, size), path)
OF_NAME(truncate64, (const char *path, off64_t size), (path, size), path)

#define REMOVAL(name, parameters, arguments, is_ours)                                                       \
    int name parameters {                                                                                   \
        REAL(name);                                                                                         \
        if ((is_ours) && __sync_add_and_fetch(&removed, 1) == target && manner == KILL_AT_REMOVAL) die();   \
        return real arguments;                                                                              \
    }

REMOVAL(unlink, (const char *path), (path), below_root(path))
REMOVAL(rmdir, (const char *path), (path), below_root(path))
REMOVAL(unlinkat, (int place, const char *path, int flags), (place, path, flags), below_root_at(place, path))

#define READING(name, parameters, arguments)                                                                         \
    ssize_t name parameters {                                                                                        \
        REAL(name);                                                                                                  \
        if ((manner == COUNT || manner == READS_FAIL) && is_below_root(descriptor) &&                                \
            __sync_add_and_fetch(&were_read, 1) >= target && manner == READS_FAIL) REFUSE;                           \
        return real arguments;                                                                                       \
    }

READING(read, (int descriptor, void *data, size_t size), (descriptor, data, size))
READING(pread, (int descriptor, void *data, size_t size, off_t place), (descriptor, data, size, place))
READING(pread64, (int descriptor, void *data, size_t size, off64_t place), (descriptor, data, size, place))
