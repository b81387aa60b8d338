// faults: a library that is loaded before the C library (LD_PRELOAD). It makes the N-th operation of a program on the
// files of a folder fail, as bad and full disks do. Linux only.
//   FAULT_DIR   the folder. Below it these operations count: making a file or a folder, writing, truncating, syncing,
//               closing a written file, renaming (under the new name)
//   FAULT_AT    N, from 1; 0: count only
//   FAULT_HOW   EIO: the N-th fails. ENOSPC: from the N-th on, all fail that take room, and syncs. short: from there on
//               a write takes half of its bytes. wait: the N-th waits for a signal, then for another one
//   FAULT_LOG   a file outside that folder. It gets a line for each operation: which one, and its path; after one that
//               fails, a line that begins with "fails"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int n_seen, log_fd = -1;
static bool busy;                                          // the library's own operations do not count

static bool is(const char *how) { return strcmp(getenv("FAULT_HOW") ? getenv("FAULT_HOW") : "", how) == 0; }

static void note(const char *what, const char *path)
{
    char line[PATH_MAX + 64];
    int n = snprintf(line, sizeof line, "%s %s\n", what, path);
    busy = true;
    if (log_fd < 0) log_fd = open(getenv("FAULT_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (write(log_fd, line, (size_t)n) != n) abort();
    busy = false;
}

// Counts an operation. True, with errno set, if it must fail. *is_short, unless NULL: whether it writes only a part.
static bool fails(const char *what, const char *path, bool *is_short)
{
    const char *dir = getenv("FAULT_DIR"), *at = getenv("FAULT_AT");
    if (busy || !dir || !at || strncmp(path, dir, strlen(dir)) != 0) return false;
    int number = ++n_seen, wanted = atoi(at);
    bool takes_room = strcmp(what, "open") == 0 || strcmp(what, "mkdir") == 0 || strcmp(what, "write") == 0 ||
                      strcmp(what, "fsync") == 0;
    note(what, path);
    bool here = number == wanted, on = wanted && number >= wanted;
    if (is("short") && is_short) *is_short = on;
    if (is("wait") && here) {
        note("waits at", path);
        pause();
        note("woken at", path);
        pause();
    }
    bool bad = is("EIO") ? here : is("ENOSPC") && on && takes_room;
    if (bad || (is_short && *is_short)) note("fails", path);
    errno = is("EIO") ? EIO : ENOSPC;
    return bad;
}

static bool fd_fails(const char *what, int fd, bool *is_short)
{
    char link[40], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return false;
    path[n] = 0;
    return fails(what, path, is_short);
}

int open(const char *path, int flags, ...)
{
    REAL(open);
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return flags & O_CREAT && fails("open", path, NULL) ? -1 : real(path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    REAL(write);
    bool is_short = false;
    if (fd_fails("write", fd, &is_short)) return -1;
    return real(fd, bytes, is_short ? (n + 1) / 2 : n);
}

int close(int fd)
{
    REAL(close);
    int flags = fcntl(fd, F_GETFL);
    bool bad = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && fd_fails("close", fd, NULL);
    int why = errno, status = real(fd);                    // a close that fails closes the file anyway
    if (bad) errno = why;
    return bad ? -1 : status;
}

int fsync(int fd)
{
    REAL(fsync);
    return fd_fails("fsync", fd, NULL) ? -1 : real(fd);
}

int ftruncate(int fd, off_t size)
{
    REAL(ftruncate);
    return fd_fails("ftruncate", fd, NULL) ? -1 : real(fd, size);
}

int truncate(const char *path, off_t size)
{
    REAL(truncate);
    return fails("truncate", path, NULL) ? -1 : real(path, size);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    struct stat st;                                        // a folder that exists is not made
    return stat(path, &st) != 0 && fails("mkdir", path, NULL) ? -1 : real(path, mode);
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    return fails("rename", to, NULL) ? -1 : real(from, to);
}
