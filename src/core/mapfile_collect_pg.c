/*
 * mapfile_collect_pg.c
 *	  Keeping the directory of compiled models small.
 *
 * Unlinking is always safe: sessions keep what they have mapped, and whoever
 * needs the file next builds it.  Errors are ignored for the same reason.
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "core/mapfile_int.h"
#include "core/mapfile_pg.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

static int	cache_size_mb = 4096;

typedef struct cached_file
{
	char		path[MAXPGPATH];
	struct timespec used;
	int64		size;
} cached_file;

typedef struct cached_files
{
	cached_file *file;
	int			n;
	int			capacity;
	int64		total;
} cached_files;

void
mr_map_init(void)
{
	DefineCustomIntVariable("millrace.model_cache_size",
							"Disk space for compiled models, all databases together.",
							"The least recently used are removed beyond it, and compiled again when used.",
							&cache_size_mb, 4096, 1, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
}

void
mr_map_remove_files(const uint8 *prefix, int len)
{
	char		dir[MAXPGPATH];
	char		begin[2 * MR_MAP_KEY_SIZE + 1];
	DIR		   *d;
	struct dirent *de;

	for (int i = 0; i < len; i++)
		snprintf(begin + 2 * i, 3, "%02x", prefix[i]);
	snprintf(dir, sizeof(dir), "%s/%u", MR_MAP_DIR, MyDatabaseId);
	d = AllocateDir(dir);
	while (d && (de = ReadDirExtended(d, dir, LOG)) != NULL)
	{
		char		path[MAXPGPATH * 2];

		if (strlen(de->d_name) != 2 * MR_MAP_KEY_SIZE || strncmp(de->d_name, begin, 2 * len) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		(void) unlink(path);
	}
	if (d)
		FreeDir(d);
}

static int
by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const cached_file *) a)->used;
	const struct timespec *y = &((const cached_file *) b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* A temporary file "<key>.<pid>.tmp" whose writer is gone? */
static bool
abandoned(const char *name)
{
	const char *dot = strchr(name, '.');
	int			pid;

	return dot != NULL && sscanf(dot, ".%d.tmp", &pid) == 1 &&
		kill(pid, 0) != 0 && errno == ESRCH;
}

/* Note the files of one database's directory, or remove all of them. */
static void
walk(const char *dir, bool dropped, cached_files *files)
{
	DIR		   *d = AllocateDir(dir);
	struct dirent *de;

	if (d == NULL)
		return;
	while ((de = ReadDirExtended(d, dir, LOG)) != NULL)
	{
		char		path[MAXPGPATH * 2];
		struct stat st;

		if (de->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		if (dropped || abandoned(de->d_name))
		{
			(void) unlink(path);
			continue;
		}
		if (strlen(de->d_name) != 2 * MR_MAP_KEY_SIZE || strlen(path) >= MAXPGPATH ||
			lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
			continue;
		if (files->n == files->capacity)
		{
			files->capacity *= 2;
			files->file = repalloc_huge(files->file, files->capacity * sizeof(cached_file));
		}
		strlcpy(files->file[files->n].path, path, MAXPGPATH);
		files->file[files->n].used = st.st_atim;
		files->file[files->n].size = st.st_size;
		files->total += st.st_size;
		files->n++;
	}
	FreeDir(d);
	if (dropped)
		(void) rmdir(dir);
}

void
mr_map_collect(void)
{
	MemoryContext cxt;
	MemoryContext old;
	cached_files files = {.capacity = 64};
	DIR		   *d;
	struct dirent *de;
	int64		cap = (int64) cache_size_mb * 1024 * 1024;

	if (!IsTransactionState())
		return;
	d = AllocateDir(MR_MAP_DIR);
	if (d == NULL)
		return;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace collection", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	files.file = palloc(files.capacity * sizeof(cached_file));
	while ((de = ReadDirExtended(d, MR_MAP_DIR, LOG)) != NULL)
	{
		char		dir[MAXPGPATH * 2];
		char	   *end;
		unsigned long oid = strtoul(de->d_name, &end, 10);

		if (oid == 0 || *end != '\0')
			continue;
		snprintf(dir, sizeof(dir), "%s/%s", MR_MAP_DIR, de->d_name);
		walk(dir, (Oid) oid != MyDatabaseId &&
			 !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum((Oid) oid)), &files);
	}
	FreeDir(d);
	if (files.total > cap)
	{
		qsort(files.file, files.n, sizeof(cached_file), by_use);
		/* The last one was made just now. */
		for (int i = 0; i < files.n - 1 && files.total > cap; i++)
			if (unlink(files.file[i].path) == 0)
				files.total -= files.file[i].size;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}
