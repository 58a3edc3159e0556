/* Mappings of rings, and who owns a participant's place. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_TMPFILE, linkat by descriptor */
#endif
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map_and_format(rc_map *map, int fd, uint64_t bytes, const rc_config *config) {
    int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED) return RC_SYSTEM;
    int answer = rc_format(memory, bytes, config);
    if (answer) {
        munmap(memory, bytes);
        return answer;
    }
    *map = (rc_map){memory, bytes, true};
    return RC_OK;
}

int rc_map_anonymous(rc_map *map, const rc_config *config) {
    uint64_t bytes;
    int answer = rc_size(config, &bytes);
    return answer ? answer : map_and_format(map, -1, bytes, config);
}

/* A file without a name in the folder of `path`, so a process that is killed here leaves nothing; where the file system has none
 * (EOPNOTSUPP, EISDIR), a hidden name, told in `*working`. */
static int open_unnamed(const char *path, char **working) {
    const char *slash = strrchr(path, '/');
    size_t folder = slash ? (size_t)(slash - path) + 1 : 0, room = strlen(path) + 48;
    *working = malloc(room);
    if (!*working) return -1;
    snprintf(*working, room, "%.*s", (int)folder, folder ? path : "");
    int fd = open(folder ? *working : ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (*working)[0] = 0;
        return fd;
    }
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) return -1;
    snprintf(*working, room, "%.*s.%s.%ld.%llx", (int)folder, path, path + folder, (long)getpid(), (unsigned long long)rc_now_ns());
    return open(*working, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* Formatted without a name and then linked: whoever finds `path` finds a whole ring, and an existing file is never touched.
 * Space is reserved first: a full tmpfs is an error here, not a SIGBUS at the first write. */
int rc_map_create(rc_map *map, const char *path, const rc_config *config) {
    char *working = NULL, proc[40];
    int fd = -1, error;
    uint64_t bytes;
    int answer = rc_size(config, &bytes);
    if (answer) return answer;
    answer = RC_SYSTEM;
    fd = open_unnamed(path, &working);
    if (fd < 0) goto exit;
    if ((error = posix_fallocate(fd, 0, (off_t)bytes)) != 0) {
        errno = error;
        goto exit;
    }
    answer = map_and_format(map, fd, bytes, config);
    if (answer) goto exit;
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd); /* the way to link a file without a name (open(2)) */
    if (linkat(AT_FDCWD, *working ? working : proc, AT_FDCWD, path, *working ? 0 : AT_SYMLINK_FOLLOW)) {
        answer = errno == EEXIST ? RC_BUSY : RC_SYSTEM;
        error = errno;
        rc_unmap(map);
        errno = error;
    }
exit:
    error = errno;
    if (fd >= 0) {
        if (*working) unlink(working);
        close(fd);
    }
    free(working);
    errno = error;
    return answer;
}

int rc_map_attach(rc_map *map, const char *path, bool writable) {
    int answer = RC_SYSTEM, error;
    struct stat st;
    /* O_NONBLOCK: a FIFO planted under the name must not hold us. */
    int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return RC_SYSTEM;
    if (fstat(fd, &st)) goto exit;
    uint32_t magic = 0; /* what is no ring at all is not called a damaged one, however short it is */
    if (!S_ISREG(st.st_mode) || pread(fd, &magic, sizeof magic, 0) != sizeof magic || magic != RC_MAGIC) {
        answer = RC_MAGIC_BAD;
        goto exit;
    }
    if ((uint64_t)st.st_size < sizeof(rc_layout)) {
        answer = RC_SIZE_BAD;
        goto exit;
    }
    void *memory = mmap(NULL, (size_t)st.st_size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) goto exit;
    *map = (rc_map){memory, (uint64_t)st.st_size, writable};
    answer = RC_OK;
exit:
    error = errno;
    close(fd);
    errno = error;
    return answer;
}

void rc_unmap(rc_map *map) {
    if (map->memory) munmap(map->memory, map->bytes);
    map->memory = NULL;
}

/* Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat; the name before it may hold anything but ends with
 * the last parenthesis), low 32 bits, never 0. A pid alone would be used again. 0: no such process or no /proc; `zombie` it has ended. */
static uint32_t started(uint32_t pid, bool *zombie) {
    char text[64 + 4096];
    snprintf(text, sizeof text, "/proc/%u/stat", pid);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    char *field = strrchr(text, ')');
    if (!field || strlen(field) < 3) return 0;
    *zombie = field[2] == 'Z' || field[2] == 'X';
    for (int i = 2; field && i < 22; i++) field = strchr(field + 1, ' ');
    if (!field) return 0;
    uint32_t ticks = (uint32_t)strtoull(field, NULL, 10);
    return ticks ? ticks : 1;
}

uint64_t rc_self(void) {
    bool zombie = false;
    uint32_t pid = (uint32_t)getpid();
    return (uint64_t)pid << 32 | started(pid, &zombie);
}

int rc_alive(uint64_t owner) {
    bool zombie = false;
    uint32_t pid = (uint32_t)(owner >> 32), start = (uint32_t)owner;
    if (!pid || pid > INT32_MAX) return 2;
    if (kill((pid_t)pid, 0) && errno == ESRCH) return 0;
    if (!start) return 2;
    uint32_t now = started(pid, &zombie);
    if (!now) return access("/proc/self/stat", R_OK) ? 2 : (kill((pid_t)pid, 0) && errno == ESRCH ? 0 : 2);
    return now == start && !zombie;
}
