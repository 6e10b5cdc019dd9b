/* A wall clock that can be set without touching the machine's, for LD_PRELOAD: CLOCK_REALTIME is moved by as many seconds as the
   file $CLOCK_FILE says, read anew at every call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t which, struct timespec *out)
{
	static int (*real)(clockid_t, struct timespec *);
	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int code = real(which, out);
	const char *name = getenv("CLOCK_FILE");
	char text[32] = "";
	int fd = which == CLOCK_REALTIME && name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		if (read(fd, text, sizeof text - 1) > 0)
			out->tv_sec += strtol(text, NULL, 10);
		close(fd);
	}
	return code;
}
