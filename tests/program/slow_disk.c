/* A disk that takes its time, for LD_PRELOAD: calls on paths below $SLOW_DIR wait as many seconds as the file $SLOW_FILE says,
   such as `readdir=5 stat=0.2 unlink=4 statfs=5 fsync=6`. Read anew at every call. `clock=60` puts the wall clock a minute
   ahead, `links=0` takes links away from the disk. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* What the file says of a word, or `other`. */
static double said(const char *word, double other)
{
	const char *name = getenv("SLOW_FILE");
	char text[256] = " ", key[32];
	int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return other;
	ssize_t n = read(fd, text + 1, sizeof text - 2);
	close(fd);
	text[n > 0 ? n + 1 : 1] = 0;
	snprintf(key, sizeof key, " %s=", word);
	const char *at = strstr(text, key);
	return at ? strtod(at + strlen(key), NULL) : other;
}

static void wait_for(const char *word)
{
	double s = said(word, 0);
	struct timespec t = { (time_t)s, (long)((s - (double)(time_t)s) * 1e9) };
	if (s > 0)
		nanosleep(&t, NULL);
}

/* Where `path`, taken from the folder `fd`, leads. */
static int is_slow(int fd, const char *path)
{
	const char *dir = getenv("SLOW_DIR");
	char whole[PATH_MAX * 2] = "", link[64];
	if (!dir)
		return 0;
	if (path[0] != '/') {
		snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
		ssize_t n = readlink(link, whole, PATH_MAX);
		whole[n > 0 ? n : 0] = '/';
		path = strcat(whole, path);
	}
	return strncmp(path, dir, strlen(dir)) == 0;
}

#define NEXT(f) ((__typeof__(&f))dlsym(RTLD_NEXT, #f))

DIR *opendir(const char *path)
{
	if (is_slow(AT_FDCWD, path))
		wait_for("readdir");
	return NEXT(opendir)(path);
}

int statx(int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict out)
{
	/* Whoever tries whether there is such a call gives no path, which its declaration calls impossible. */
	const char *volatile given = path;
	if (given && given[0] && is_slow(fd, given))
		wait_for("stat");
	return NEXT(statx)(fd, path, flags, mask, out);
}

int unlink(const char *path)
{
	if (is_slow(AT_FDCWD, path))
		wait_for("unlink");
	return NEXT(unlink)(path);
}

int statvfs(const char *restrict path, struct statvfs *restrict out)
{
	if (is_slow(AT_FDCWD, path))
		wait_for("statfs");
	return NEXT(statvfs)(path, out);
}

int statvfs64(const char *restrict path, struct statvfs64 *restrict out)
{
	if (is_slow(AT_FDCWD, path))
		wait_for("statfs");
	return NEXT(statvfs64)(path, out);
}

int fdatasync(int fd)
{
	if (is_slow(fd, "."))
		wait_for("fsync");
	return NEXT(fdatasync)(fd);
}

int clock_gettime(clockid_t id, struct timespec *out)
{
	static __typeof__(&clock_gettime) next;
	if (!next)
		next = NEXT(clock_gettime);
	int done = next(id, out);
	if (id == CLOCK_REALTIME)
		out->tv_sec += (time_t)said("clock", 0);
	return done;
}

int symlink(const char *to, const char *path)
{
	if (is_slow(AT_FDCWD, path) && said("links", 1) == 0)
		return errno = EPERM, -1;
	return NEXT(symlink)(to, path);
}

int linkat(int from, const char *path, int to, const char *name, int flags)
{
	if (is_slow(to, name) && said("links", 1) == 0)
		return errno = EPERM, -1;
	return NEXT(linkat)(from, path, to, name, flags);
}
