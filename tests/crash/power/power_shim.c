/* Records, in order, what a process does to the files below one folder; preloaded by the power-loss tests.
 *
 * POWER_ROOT   the folder (an absolute path without links in it)
 * POWER_TRACE  the file the trace is appended to, outside that folder
 *
 * 1. One lock is held over each system call and its entry, so the trace has the order of the file system.
 * 2. A call that failed leaves no entry; a short write leaves as much as was written.
 * 3. Files ending in -shm are passed over: SQLite builds them anew at each first open.
 * 4. What is not intercepted (mmap, splice, fallocate ...) is not seen: the test compares a replay of the whole
 *    trace with the folder and fails on any difference.
 *
 * Entry, host byte order: u8 op, u64 inode, i64 number, u32 first length, u32 second length, first, second.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name, result, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_len;
static int trace = -1;

static void broken(const char *what) {
    dprintf(2, "power_shim: %s: %s\n", what, strerror(errno));
    _exit(97);
}

static void emit(char op, uint64_t inode, int64_t number, const void *one, size_t one_len, const void *two,
                 size_t two_len) {
    REAL("writev", ssize_t, int, const struct iovec *, int);
    unsigned char head[25];
    uint32_t lengths[2] = {(uint32_t)one_len, (uint32_t)two_len};
    head[0] = (unsigned char)op;
    memcpy(head + 1, &inode, 8);
    memcpy(head + 9, &number, 8);
    memcpy(head + 17, lengths, 8);
    struct iovec parts[3] = {{head, sizeof head}, {(void *)one, one_len}, {(void *)two, two_len}};
    if (real(trace, parts, 3) != (ssize_t)(sizeof head + one_len + two_len)) broken("trace");
}

__attribute__((constructor)) static void start(void) {
    const char *folder = getenv("POWER_ROOT"), *out = getenv("POWER_TRACE");
    struct stat info;
    if (!folder || !out) return;
    REAL("open64", int, const char *, int, ...);
    trace = real(out, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trace < 0 || stat(folder, &info) || strlen(folder) >= sizeof root) broken("start");
    strcpy(root, folder);
    root_len = strlen(root);
    emit('d', info.st_ino, info.st_mode, "", 0, "", 0);
}

static int below(const char *path) {
    size_t len = strlen(path);
    if (trace < 0 || len <= root_len || strncmp(path, root, root_len) || path[root_len] != '/') return 0;
    return !(len > 4 && !strcmp(path + len - 4, "-shm"));
}

/* The absolute path a call names; 1 if it is one of ours. */
static int named(int folder, const char *path, char *out) {
    char from[64];
    ssize_t len;
    if (trace < 0) return 0;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        snprintf(from, sizeof from, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        if ((len = readlink(from, out, PATH_MAX - 1)) < 0) return 0;
        snprintf(out + len, (size_t)(PATH_MAX - len), "/%s", path);
    }
    return below(out);
}

/* The file behind a descriptor; 1 if it is one of ours. */
static int held(int fd, struct stat *info) {
    char from[64], path[PATH_MAX];
    ssize_t len;
    int error = errno, ours = 0;
    if (trace >= 0 && fd != trace) {
        snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
        if ((len = readlink(from, path, sizeof path - 1)) >= 0) {
            path[len] = 0;
            ours = (below(path) || !strcmp(path, root)) && !strstr(path, "-shm (deleted)") && !fstat(fd, info);
        }
    }
    errno = error;
    return ours;
}

static const char *rel(const char *path) { return path + root_len + 1; }
#define STR(path) rel(path), strlen(rel(path))
#define LOCK() pthread_mutex_lock(&turn)
#define UNLOCK() pthread_mutex_unlock(&turn)

/* Called by the program: what it was promised, at this point of the trace. */
void power_mark(const char *text, size_t len) {
    LOCK();
    if (trace >= 0) emit('m', 0, 0, text, len, "", 0);
    UNLOCK();
}

/* --- files */

static int opened(int folder, const char *path, int flags, mode_t mode) {
    REAL("openat64", int, int, const char *, int, ...);
    char full[PATH_MAX];
    struct stat info;
    int fd, there;
    int nameless = (flags & O_TMPFILE) == O_TMPFILE;
    if (!(nameless || flags & (O_CREAT | O_TRUNC)) || !named(folder, path, full)) return real(folder, path, flags, mode);
    LOCK();
    there = !fstatat(folder, path, &info, 0);
    fd = real(folder, path, flags, mode);
    if (fd >= 0) {
        if (fstat(fd, &info)) broken("fstat");
        if (nameless) emit('c', info.st_ino, info.st_mode, "", 0, "", 0);
        else if (!there) emit('c', info.st_ino, info.st_mode, STR(full), "", 0);
        else if (flags & O_TRUNC) emit('t', info.st_ino, 0, "", 0, "", 0);
    }
    UNLOCK();
    return fd;
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, last); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }

ssize_t write(int fd, const void *data, size_t size) {
    REAL("write", ssize_t, int, const void *, size_t);
    struct stat info;
    if (!held(fd, &info)) return real(fd, data, size);
    LOCK();
    ssize_t done = real(fd, data, size);
    if (done > 0) emit('w', info.st_ino, lseek(fd, 0, SEEK_CUR) - done, data, (size_t)done, "", 0);
    UNLOCK();
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL("writev", ssize_t, int, const struct iovec *, int);
    struct stat info;
    if (!held(fd, &info)) return real(fd, parts, count);
    LOCK();
    ssize_t done = real(fd, parts, count), left = done;
    off_t at = done > 0 ? lseek(fd, 0, SEEK_CUR) - done : 0;
    for (int i = 0; i < count && left > 0; i++) {
        ssize_t size = (ssize_t)parts[i].iov_len < left ? (ssize_t)parts[i].iov_len : left;
        emit('w', info.st_ino, at, parts[i].iov_base, (size_t)size, "", 0);
        at += size;
        left -= size;
    }
    UNLOCK();
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    struct stat info;
    if (!held(fd, &info)) return real(fd, data, size, at);
    LOCK();
    ssize_t done = real(fd, data, size, at);
    if (done > 0) emit('w', info.st_ino, at, data, (size_t)done, "", 0);
    UNLOCK();
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

int ftruncate64(int fd, off64_t size) {
    REAL("ftruncate64", int, int, off64_t);
    struct stat info;
    if (!held(fd, &info)) return real(fd, size);
    LOCK();
    int failed = real(fd, size);
    if (!failed) emit('t', info.st_ino, size, "", 0, "", 0);
    UNLOCK();
    return failed;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int truncate64(const char *path, off64_t size) {
    REAL("truncate64", int, const char *, off64_t);
    char full[PATH_MAX];
    struct stat info;
    if (!named(AT_FDCWD, path, full)) return real(path, size);
    LOCK();
    int failed = real(path, size);
    if (!failed && !stat(path, &info)) emit('t', info.st_ino, size, "", 0, "", 0);
    UNLOCK();
    return failed;
}
int truncate(const char *path, off_t size) { return truncate64(path, size); }

int fchmod(int fd, mode_t mode) {
    REAL("fchmod", int, int, mode_t);
    struct stat info;
    if (!held(fd, &info)) return real(fd, mode);
    LOCK();
    int failed = real(fd, mode);
    if (!failed && !fstat(fd, &info)) emit('o', info.st_ino, info.st_mode, "", 0, "", 0);
    UNLOCK();
    return failed;
}

/* --- durability */

static int synced(int (*real)(int), int fd) {
    struct stat info;
    if (!held(fd, &info)) return real(fd);
    LOCK();
    usleep(300); /* a sync takes as long as on a fast disk even in memory, so that callers meet and commit in groups */
    int failed = real(fd);
    if (!failed) emit('s', info.st_ino, 0, "", 0, "", 0);
    UNLOCK();
    return failed;
}
int fsync(int fd) {
    REAL("fsync", int, int);
    return synced(real, fd);
}
int fdatasync(int fd) {
    REAL("fdatasync", int, int);
    return synced(real, fd);
}
/* Passed on without an entry: it flushes no disk cache and writes no metadata, so nothing is durable after it. */
int sync_file_range(int fd, off64_t at, off64_t size, unsigned int flags) {
    REAL("sync_file_range", int, int, off64_t, off64_t, unsigned int);
    return real(fd, at, size, flags);
}
void sync(void) {
    REAL("sync", void, void);
    LOCK();
    real();
    if (trace >= 0) emit('a', 0, 0, "", 0, "", 0);
    UNLOCK();
}

/* --- names */

static void pair(char op, int from_at, const char *from, int to_at, const char *to) {
    char one[PATH_MAX], two[PATH_MAX];
    int ours = named(from_at, from, one) + named(to_at, to, two);
    errno = EXDEV;
    if (ours == 1) broken("a name crosses the edge of the folder");
    if (ours) emit(op, 0, 0, STR(one), STR(two));
}

int renameat(int from_at, const char *from, int to_at, const char *to) {
    REAL("renameat", int, int, const char *, int, const char *);
    LOCK();
    int failed = real(from_at, from, to_at, to);
    if (!failed) pair('r', from_at, from, to_at, to);
    UNLOCK();
    return failed;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

/* A file without a name gets one by the link that /proc holds for its descriptor: the entry names it by its inode. */
static int nameless(const char *from, int flags, struct stat *info) {
    int fd;
    return flags & AT_SYMLINK_FOLLOW && sscanf(from, "/proc/self/fd/%d", &fd) == 1 && held(fd, info);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    REAL("linkat", int, int, const char *, int, const char *, int);
    char full[PATH_MAX];
    struct stat info;
    LOCK();
    int failed = real(from_at, from, to_at, to, flags);
    if (!failed && nameless(from, flags, &info)) {
        if (!named(to_at, to, full)) broken("a file without a name crosses the edge of the folder");
        emit('l', info.st_ino, 0, "", 0, STR(full));
    } else if (!failed) {
        pair('l', from_at, from, to_at, to);
    }
    UNLOCK();
    return failed;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *path, int flags) {
    REAL("unlinkat", int, int, const char *, int);
    char full[PATH_MAX];
    LOCK();
    int failed = real(at, path, flags);
    if (!failed && named(at, path, full)) emit('u', 0, 0, STR(full), "", 0);
    UNLOCK();
    return failed;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int symlinkat(const char *text, int at, const char *path) {
    REAL("symlinkat", int, const char *, int, const char *);
    char full[PATH_MAX];
    LOCK();
    int failed = real(text, at, path);
    if (!failed && named(at, path, full)) emit('y', 0, 0, STR(full), text, strlen(text));
    UNLOCK();
    return failed;
}
int symlink(const char *text, const char *path) { return symlinkat(text, AT_FDCWD, path); }

int mkdirat(int at, const char *path, mode_t mode) {
    REAL("mkdirat", int, int, const char *, mode_t);
    char full[PATH_MAX];
    struct stat info;
    LOCK();
    int failed = real(at, path, mode);
    if (!failed && named(at, path, full) && !fstatat(at, path, &info, 0))
        emit('d', info.st_ino, info.st_mode, STR(full), "", 0);
    UNLOCK();
    return failed;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
