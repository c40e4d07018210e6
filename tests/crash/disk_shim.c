/* A disk that remembers what it was asked, and that can fail: preloaded into one process, it stands between SQLite and libc.

It looks at one database (DISK_DATABASE: its absolute path) with its -wal, -journal, -shm and -nodes files and its folder.

1. With DISK_TRACE it appends to that file, in order, each write, change of length, creation, removal and sync of the database,
   its -wal, its -journal and the folder, and the marks that the program makes with disk_mark(). Nothing is synced for real.
   The -shm file is left out, because SQLite builds it anew after a power loss, and so is -nodes, which nobody syncs.
2. After disk_arm() the k-th call of the chosen kinds fails, once or from then on, until disk_heal(). A write that fails has
   done its first 512 bytes, as a real one may have.

Methods: ALICE (Pillai et al., OSDI 2014) for 1, SQLite's own anomaly tests (sqlite.org/testing.html) for 2. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DATABASE = 1, WAL, JOURNAL, SHM, NODES, FOLDER };
enum { WRITE = 1, TRUNCATE = 2, SYNC = 4, OPEN = 8, GROW = 16 }; /* kinds of calls; GROW: writes that make a file longer */
enum { T_WRITE = 1, T_TRUNCATE, T_SYNC, T_CREATE, T_UNLINK, T_MARK };

struct record {
    uint8_t op, file;
    uint16_t zero;
    uint32_t length;
    int64_t offset;
};

#define MOST 65536
#define SECTOR 512
#define SYNC_US 100 /* long enough for other threads to come and share the next commit */

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static unsigned char files[MOST];
static char database[4096], folder[4096];
static int trace = -1;

static int kinds, error, sticky;
static long countdown, fired, calls;

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static int (*real_unlink)(const char *);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("DISK_DATABASE"), *to = getenv("DISK_TRACE");
    if (real_open)
        return;
    real_open = dlsym(RTLD_NEXT, "open64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    if (name && *name == '/' && strlen(name) < sizeof database) {
        strcpy(database, name);
        strcpy(folder, name);
        *strrchr(folder, '/') = 0;
    }
    if (to)
        trace = real_open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int classify(const char *path)
{
    size_t length;
    begin(); /* the constructor of another library may be here first */
    length = strlen(database);
    if (!length)
        return 0;
    if (!strcmp(path, folder))
        return FOLDER;
    if (strncmp(path, database, length))
        return 0;
    path += length;
    return !*path                       ? DATABASE
           : !strcmp(path, "-wal")     ? WAL
           : !strcmp(path, "-journal") ? JOURNAL
           : !strcmp(path, "-shm")     ? SHM
           : !strcmp(path, "-nodes")   ? NODES
                                       : 0;
}

static int file_of(int fd)
{
    begin();
    return fd >= 0 && fd < MOST ? files[fd] : 0;
}

static int is_traced(int file) { return trace >= 0 && (file == DATABASE || file == WAL || file == JOURNAL || file == FOLDER); }

static void put(const void *data, size_t length)
{
    const char *from = data;
    while (length) {
        ssize_t done = syscall(SYS_write, trace, from, length);
        if (done < 0)
            abort();
        from += done;
        length -= done;
    }
}

static void note(int op, int file, int64_t offset, const void *data, size_t length)
{
    struct record record = {op, file, 0, length, offset};
    if (op != T_MARK && !is_traced(file))
        return;
    put(&record, sizeof record);
    if (data)
        put(data, length);
}

/* Under the guard: whether this call is to fail. */
static int fails(int kind)
{
    if (!(kinds & kind))
        return 0;
    calls++;
    if (fired ? !sticky : --countdown > 0)
        return 0;
    fired++;
    errno = error;
    return 1;
}

void disk_arm(int which, long k, int code, int for_ever)
{
    pthread_mutex_lock(&guard);
    kinds = which, countdown = k, error = code, sticky = for_ever, fired = calls = 0;
    pthread_mutex_unlock(&guard);
}

long disk_heal(void) /* how many calls have failed */
{
    pthread_mutex_lock(&guard);
    kinds = 0;
    pthread_mutex_unlock(&guard);
    return fired;
}

long disk_fired(void) { return fired; }

void disk_mark(const char *text)
{
    if (trace < 0)
        return;
    pthread_mutex_lock(&guard);
    note(T_MARK, 0, 0, text, strlen(text));
    pthread_mutex_unlock(&guard);
}

static int opening(const char *path, int flags, mode_t mode)
{
    int file = classify(path), fd, is_new;
    if (!file)
        return real_open(path, flags, mode);
    pthread_mutex_lock(&guard);
    if (file != FOLDER && fails(OPEN)) {
        pthread_mutex_unlock(&guard);
        return -1;
    }
    is_new = (flags & O_CREAT) && access(path, F_OK);
    fd = real_open(path, flags, mode);
    if (fd >= 0 && fd < MOST) {
        files[fd] = file;
        if (is_new)
            note(T_CREATE, file, 0, NULL, 0);
    }
    pthread_mutex_unlock(&guard);
    return fd;
}

#define OPENER(name)                           \
    int name(const char *path, int flags, ...) \
    {                                          \
        va_list more;                          \
        mode_t mode;                           \
        va_start(more, flags);                 \
        mode = va_arg(more, mode_t);           \
        va_end(more);                          \
        return opening(path, flags, mode);     \
    }
OPENER(open)
OPENER(open64)

int close(int fd)
{
    if (file_of(fd))
        files[fd] = 0;
    return real_close(fd);
}

static ssize_t writing(int fd, const void *data, size_t length, off64_t offset)
{
    int file = file_of(fd), saved;
    ssize_t done;
    struct stat64 status;
    pthread_mutex_lock(&guard);
    if (fails(WRITE) || ((kinds & GROW) && !fstat64(fd, &status) && offset + (off64_t)length > status.st_size && fails(GROW))) {
        saved = errno;
        if (!(kinds & GROW) && length > SECTOR)
            real_pwrite(fd, data, SECTOR, offset);
        errno = saved;
        pthread_mutex_unlock(&guard);
        return -1;
    }
    done = real_pwrite(fd, data, length, offset);
    if (done > 0)
        note(T_WRITE, file, offset, data, done);
    pthread_mutex_unlock(&guard);
    return done;
}

ssize_t write(int fd, const void *data, size_t length)
{
    ssize_t done;
    off64_t at;
    if (!file_of(fd))
        return real_write(fd, data, length);
    at = lseek64(fd, 0, SEEK_CUR);
    done = writing(fd, data, length, at);
    if (done > 0)
        lseek64(fd, at + done, SEEK_SET);
    return done;
}

#define WRITER(name)                                                          \
    ssize_t name(int fd, const void *data, size_t length, off64_t offset)     \
    {                                                                         \
        if (!file_of(fd))                                                     \
            return real_pwrite(fd, data, length, offset);                     \
        return writing(fd, data, length, offset);                             \
    }
WRITER(pwrite)
WRITER(pwrite64)

#define CUTTER(name)                                      \
    int name(int fd, off64_t length)                      \
    {                                                     \
        int file = file_of(fd), result = -1;              \
        if (!file)                                        \
            return real_ftruncate(fd, length);            \
        pthread_mutex_lock(&guard);                       \
        if (!fails(TRUNCATE)) {                           \
            result = real_ftruncate(fd, length);          \
            if (!result)                                  \
                note(T_TRUNCATE, file, length, NULL, 0);  \
        }                                                 \
        pthread_mutex_unlock(&guard);                     \
        return result;                                    \
    }
CUTTER(ftruncate)
CUTTER(ftruncate64)

static int syncing(int fd, int (*real)(int))
{
    int file = file_of(fd), result = -1;
    if (!file)
        return real(fd);
    if (trace >= 0)
        usleep(SYNC_US);
    pthread_mutex_lock(&guard);
    if (file == FOLDER || !fails(SYNC)) {
        result = 0; /* this process never meets a power loss */
        note(T_SYNC, file, 0, NULL, 0);
    }
    pthread_mutex_unlock(&guard);
    return result;
}

int fsync(int fd) { return syncing(fd, real_fsync); }
int fdatasync(int fd) { return syncing(fd, real_fdatasync); }

int unlink(const char *path)
{
    int file = classify(path), result;
    if (!file)
        return real_unlink(path);
    pthread_mutex_lock(&guard);
    result = real_unlink(path);
    if (!result)
        note(T_UNLINK, file, 0, NULL, 0);
    pthread_mutex_unlock(&guard);
    return result;
}
