// Preloaded into a process: the clock of the day is wrong by as many seconds as set_clock() said, from its Nth reading on.
//
// Only CLOCK_REALTIME: intervals stay true, as when a person or NTP sets the clock. Only ever loaded by fault_server.py.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static long wrong_by, right_for, read_so_far;

void set_clock(long seconds, long readings) { wrong_by = seconds, right_for = readings, read_so_far = 0; }

static long wrong_now(void) {
    return wrong_by != 0 && __sync_add_and_fetch(&read_so_far, 1) > right_for ? wrong_by : 0;
}

int clock_gettime(clockid_t clock, struct timespec *told) {
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, told);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) told->tv_sec += wrong_now();
    return result;
}

int gettimeofday(struct timeval *restrict told, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    told->tv_sec = now.tv_sec, told->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    if (told != NULL) *told = now.tv_sec;
    return now.tv_sec;
}
