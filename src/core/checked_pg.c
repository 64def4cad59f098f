/*
 * checked_pg.c
 *	  Which compiled files this server has already checked since it started.
 *
 * Reading 100 MB for a CRC costs a new connection 20 ms; one check a server
 * start is enough, since files are never changed.  A file is known by key,
 * inode, size and times, so one that somebody replaced or wrote to is checked
 * again.  Shared memory of fixed size: the entry used longest ago makes room,
 * and then some file is checked once more.  Lock: the block's own LWLock.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "core/mapfile_int.h"
#include "core/shared_pg.h"
#include "miscadmin.h"

#define MAX_CHECKED 128

typedef struct checked_file
{
	uint8		key[16];		/* first half of the map's */
	uint64		inode;
	uint64		size;
	int64		changed;		/* status change, nanoseconds */
	uint64		used;			/* clock of last use; 0: free */
} checked_file;

typedef struct checked_block
{
	mr_shared_head head;
	uint64		clock;
	checked_file file[MAX_CHECKED];
} checked_block;

static checked_block *block;

void
mr_checked_init(void)
{
	if (process_shared_preload_libraries_in_progress)
		mr_shared_reserve(sizeof(checked_block));
}

static void
attach(void)
{
	if (block == NULL)
		block = mr_shared_block("millrace checked files", sizeof(checked_block));
}

static checked_file
describe(const uint8 *key, const struct stat *st)
{
	checked_file f = {.inode = st->st_ino,.size = st->st_size,
	.changed = (int64) st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec};

	memcpy(f.key, key, sizeof(f.key));
	return f;
}

static checked_file *
find(const checked_file *f)
{
	for (int i = 0; i < MAX_CHECKED; i++)
	{
		checked_file *have = &block->file[i];

		if (have->used && have->inode == f->inode && have->size == f->size && have->changed == f->changed &&
			memcmp(have->key, f->key, sizeof(f->key)) == 0)
			return have;
	}
	return NULL;
}

bool
mr_checked(const uint8 *key, const struct stat *st)
{
	checked_file f = describe(key, st);
	checked_file *have;

	attach();
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	have = find(&f);
	if (have)
		have->used = ++block->clock;
	LWLockRelease(&block->head.lock);
	return have != NULL;
}

void
mr_checked_add(const uint8 *key, const struct stat *st)
{
	checked_file f = describe(key, st);
	checked_file *to;

	attach();
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	to = find(&f);
	if (to == NULL)
	{
		to = &block->file[0];
		for (int i = 1; i < MAX_CHECKED; i++)
			if (block->file[i].used < to->used)
				to = &block->file[i];
	}
	f.used = ++block->clock;
	*to = f;
	LWLockRelease(&block->head.lock);
}
