/*
 * test_image_corpus.c
 *	  The malformed images of the shared data: pixels or a clean refusal, each
 *	  within 2 s and bounded memory.  Real photos: pixels.
 */
#include <dirent.h>
#include <ftw.h>
#include <time.h>
#include <unistd.h>

#include "image_make.h"

static int	files,
			good,
			refused,
			wrong;
static double slowest;
static size_t largest;
static char slowest_name[512];

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static int
visit(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
	size_t		len;
	unsigned char *data;

	if (flag != FTW_F || (data = read_file(path, &len)) == NULL)
		return 0;
	files++;
	for (int target = 0; target <= 64; target += 64)
	{
		meter		m = {0};
		mr_env		env = meter_env(&m);
		img_pixels	p;
		img_info	info;
		mr_status	st = {0};
		double		start = seconds();
		mr_code		code = img_decode(&env, data, len, &test_limits, target, target, &p, &st);
		double		took = seconds() - start;

		if (took > slowest)
		{
			slowest = took;
			snprintf(slowest_name, sizeof(slowest_name), "%s", path + ftw->base);
		}
		if (m.peak > largest)
			largest = m.peak;
		if (code == MR_OK)
		{
			/* what decodes can be probed, and is as large as the header says */
			if (img_probe(&env, data, len, &test_limits, &info, &st) != MR_OK ||
				(target == 0 && (info.width != (info.orientation > 4 ? p.height : p.width) ||
								 info.height != (info.orientation > 4 ? p.width : p.height))))
				wrong++;
			good += target == 0;
		}
		else if (code == MR_INVALID && st.message[0] && p.data == NULL)
			refused += target == 0;
		else
		{
			printf("# %s: code %d, %s\n", path, code, st.message);
			wrong++;
		}
		img_free(&env, &p);
		if (m.used != 0)
		{
			printf("# %s: %zu bytes not freed\n", path, m.used);
			wrong++;
		}
	}
	free(data);
	return 0;
}

static int
forget(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
	return remove(path);
}

int
main(void)
{
	static const char *const archives[] = {"malformed/fuzz_corpus_half.tar.gz", "malformed/pillow_half.tar.gz"};

	for (int i = 0; i < 2; i++)
	{
		char		dir[] = "/tmp/millrace_corpus_XXXXXX";
		char		command[2048];

		if (access(data_path(archives[i]), R_OK) != 0)
		{
			skip("no malformed images here");
			continue;
		}
		files = good = refused = wrong = 0;
		slowest = 0;
		largest = 0;
		snprintf(command, sizeof(command), "tar xzf '%s' -C '%s'", data_path(archives[i]),
				 mkdtemp(dir) ? dir : "/nonexistent");
		ok(system(command) == 0, "unpack %s", archives[i]);
		nftw(dir, visit, 16, FTW_PHYS);
		ok(files > 200 && wrong == 0, "%s: %d files, %d images, %d refused, %d wrong", archives[i],
		   files, good, refused, wrong);
		ok(slowest < 2, "slowest %.3f s (%s)", slowest, slowest_name);
		ok(largest < 512 << 20, "largest %.1f MB", (double) largest / (1 << 20));
		nftw(dir, forget, 16, FTW_DEPTH | FTW_PHYS);
	}
	if (access(data_path("photos"), R_OK) != 0)
		skip("no photos here");
	else
	{
		files = good = refused = wrong = 0;
		nftw(data_path("photos"), visit, 16, FTW_PHYS);
		ok(files >= 5 && good == files && wrong == 0, "%d of %d photos decode", good, files);
	}
	return done_testing();
}
