/* Loaded into a process (LD_PRELOAD) so that libcamera's virtual camera works on kernels without udmabuf and DMA heaps.
 *
 * Opening /dev/udmabuf, where there is none, gives a descriptor that stands for it; asking that for a DMA buffer gives the
 * memory file itself, which can be mapped and handed on like one. Each time libcamera maps such a buffer to draw a frame
 * into it, the call waits for its turn, so that the camera, which has no clock of its own, keeps STANDIN_FPS frames a second
 * (0 or nothing: as fast as it can).
 *
 * cc -O2 -shared -fPIC -o standin.so standin.c */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/udmabuf.h>

/* Memory files by inode; of very many the oldest are forgotten. */
struct files {
	ino_t inodes[1024];
	unsigned count;
};
static struct files devices, buffers;

static ino_t inode(int fd)
{
	struct stat s;
	return fd >= 0 && fstat(fd, &s) == 0 ? s.st_ino : 0;
}

static int among(const struct files *files, int fd)
{
	ino_t i = inode(fd);
	for (unsigned n = 0; i && n < files->count && n < 1024; n++)
		if (files->inodes[n] == i)
			return 1;
	return 0;
}

static void add(struct files *files, int fd)
{
	if (fd >= 0 && !among(files, fd))
		files->inodes[files->count++ % 1024] = inode(fd);
}

static int open_file(int folder, const char *path, int flags, mode_t mode)
{
	long fd = syscall(SYS_openat, folder, path, flags, mode);
	if (fd < 0 && errno == ENOENT && path && strcmp(path, "/dev/udmabuf") == 0) {
		fd = syscall(SYS_memfd_create, "udmabuf-standin", MFD_CLOEXEC);
		add(&devices, fd);
	}
	return fd;
}

#define WITH_MODE(last)                                  \
	mode_t mode = 0;                                 \
	if (flags & (O_CREAT | O_TMPFILE)) {             \
		va_list more;                            \
		va_start(more, last);                    \
		mode = va_arg(more, mode_t);             \
		va_end(more);                            \
	}

int open(const char *path, int flags, ...) { WITH_MODE(flags) return open_file(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { WITH_MODE(flags) return open_file(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *path, int flags, ...) { WITH_MODE(flags) return open_file(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { WITH_MODE(flags) return open_file(folder, path, flags | O_LARGEFILE, mode); }
int __open_2(const char *path, int flags) { return open_file(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_file(AT_FDCWD, path, flags | O_LARGEFILE, 0); }

int ioctl(int fd, unsigned long request, ...)
{
	va_list more;
	va_start(more, request);
	void *argument = va_arg(more, void *);
	va_end(more);
	if (request == UDMABUF_CREATE && among(&devices, fd)) {
		int buffer = fcntl(((struct udmabuf_create *)argument)->memfd, F_DUPFD_CLOEXEC, 0);
		add(&buffers, buffer);
		return buffer;
	}
	if (request == DMA_BUF_IOCTL_SYNC && among(&buffers, fd))
		return 0;
	return syscall(SYS_ioctl, fd, request, argument);
}

static void wait_for_turn(void)
{
	static struct timespec next;
	const char *rate = getenv("STANDIN_FPS");
	if (!rate || atof(rate) <= 0)
		return;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	long long step = 1e9 / atof(rate), at = next.tv_sec * 1000000000LL + next.tv_nsec + step;
	long long present = now.tv_sec * 1000000000LL + now.tv_nsec;
	if (at < present - step)
		at = present;
	next = (struct timespec){ at / 1000000000LL, at % 1000000000LL };
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
}

void *mmap(void *address, size_t bytes, int access, int flags, int fd, off_t offset)
{
	if (access == PROT_WRITE && fd >= 0 && among(&buffers, fd))
		wait_for_turn();
	return (void *)syscall(SYS_mmap, address, bytes, access, flags, fd, offset);
}
void *mmap64(void *address, size_t bytes, int access, int flags, int fd, off64_t offset)
{
	return mmap(address, bytes, access, flags, fd, offset);
}
