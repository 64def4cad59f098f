/*
 * mapfile_pg.c
 *	  Files of derived bytes, mapped read-only by all sessions.
 *
 * Path: pgsql_tmp_millrace/<database oid>/<key in hex> in the data directory.
 * Base backups and pg_rewind skip names that begin with pgsql_tmp; restarts of
 * the server remove only those in base/ and in tablespaces, so ours survive.
 *
 * A file is a 64-byte header (magic, length, key, CRC-32C) and the bytes.  It
 * is written aside, fsynced and renamed, and never written again: whoever has
 * it mapped keeps what was there even when it is unlinked.  Header and CRC are
 * checked once since the server started (checked_pg.c), by read() and not
 * through the map, so that a bad sector is an error here and not a SIGBUS.
 *
 * Locks: one builder per key at a time, by an open-file-description lock on a
 * byte (chosen by the key) of the file "lock" in the same directory.  Not a
 * heavyweight lock, since parallel workers share their leader's; not an LWLock,
 * since those need preloading and cannot be waited for interruptibly.  The
 * kernel drops it with the file descriptor, however the process ends.
 *
 * Memory: a small hash table per backend; bytes only when no file can be made.
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "common/file_perm.h"
#include "core/compat.h"
#include "core/mapfile_int.h"
#include "core/mapfile_pg.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "port/pg_iovec.h"
#include "storage/fd.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#define MAP_MAGIC "MRMAP01"
#define READ_SIZE (256 * 1024)
#define HUGE_PAGE ((size_t) 2 << 20)
#define LOCK_POLL_MS 5

typedef struct map_header
{
	char		magic[8];
	uint64		length;			/* of the bytes after the header */
	uint8		key[MR_MAP_KEY_SIZE];
	uint8		pad[8];			/* zero */
	pg_crc32c	bytes_crc;
	pg_crc32c	header_crc;		/* of everything before it */
} map_header;

StaticAssertDecl(sizeof(map_header) == 64, "the bytes after the header must stay 64-byte aligned");

typedef struct map_entry
{
	uint8		key[MR_MAP_KEY_SIZE];
	const void *bytes;
	size_t		len;
	void	   *map;			/* address mmap() gave, or NULL */
	size_t		map_len;
	MemoryContext own;			/* holds bytes when there is no map */
	int			users;			/* mr_map() calls not yet released */
} map_entry;

static HTAB *entries = NULL;

static void
file_path(const uint8 *key, char *path)
{
	int			n = snprintf(path, MAXPGPATH, "%s/%u/", MR_MAP_DIR, MyDatabaseId);

	for (int i = 0; i < MR_MAP_KEY_SIZE; i++)
		n += snprintf(path + n, MAXPGPATH - n, "%02x", key[i]);
}

static pg_crc32c
crc_of(const void *data, size_t len)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, len);
	FIN_CRC32C(crc);
	return crc;
}

/* Read the whole open file once.  False: not a good file of this key. */
static bool
file_is_good(int fd, size_t size, const uint8 *key)
{
	map_header	header;
	pg_crc32c	crc;
	char	   *buffer;
	size_t		done = 0;
	bool		good;

	if (size < sizeof(header) ||
		pg_pread(fd, &header, sizeof(header), 0) != sizeof(header) ||
		memcmp(header.magic, MAP_MAGIC, sizeof(header.magic)) != 0 ||
		memcmp(header.key, key, MR_MAP_KEY_SIZE) != 0 ||
		header.length != size - sizeof(header) ||
		header.header_crc != crc_of(&header, offsetof(map_header, header_crc)))
		return false;
	buffer = palloc(READ_SIZE);
	INIT_CRC32C(crc);
	while (done < header.length)
	{
		ssize_t		n = pg_pread(fd, buffer, Min(READ_SIZE, header.length - done),
								 sizeof(header) + done);

		if (n <= 0)
			break;
		COMP_CRC32C(crc, buffer, n);
		done += n;
		CHECK_FOR_INTERRUPTS();
	}
	FIN_CRC32C(crc);
	good = done == header.length && crc == header.bytes_crc;
	pfree(buffer);
	return good;
}

/*
 * Map the file of the key, whose content was checked.  False when there is
 * none; a damaged one is removed.
 */
static bool
map_file(const uint8 *key, map_entry *entry)
{
	char		path[MAXPGPATH];
	struct stat st;
	int			fd;
	bool		good;
	void	   *map = MAP_FAILED;

	file_path(key, path);
	fd = OpenTransientFile(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | PG_BINARY);
	if (fd < 0)
		return false;
	good = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	if (good && !mr_checked(key, &st))
	{
		good = file_is_good(fd, st.st_size, key);
		if (good)
			mr_checked_add(key, &st);
	}
	if (good)
	{
		/* Faults map some 16 pages each; MAP_POPULATE, page by page, takes longer. */
		map = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
#ifdef MADV_HUGEPAGE
		/* read back in huge pages too, where the file system has them */
		if (map != MAP_FAILED)
			(void) madvise(map, st.st_size, MADV_HUGEPAGE);
#endif
		/* Time of last use, for the collection; the access time alone is lazy. */
		(void) futimens(fd, (struct timespec[2]) {{0, UTIME_NOW}, {0, UTIME_OMIT}});
	}
	CloseTransientFile(fd);
	if (!good)
	{
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("removing damaged compiled model file \"%s\"", path),
				 errdetail("It is built again from the catalogue.")));
		(void) unlink(path);
		return false;
	}
	if (map == MAP_FAILED)
		return false;
	entry->map = map;
	entry->map_len = st.st_size;
	entry->bytes = (char *) map + sizeof(map_header);
	entry->len = st.st_size - sizeof(map_header);
	entry->own = NULL;
	return true;
}

static bool
make_directory(void)
{
	char		path[MAXPGPATH];

	if (MakePGDirectory(MR_MAP_DIR) != 0 && errno != EEXIST)
		return false;
	snprintf(path, sizeof(path), "%s/%u", MR_MAP_DIR, MyDatabaseId);
	if (MakePGDirectory(path) == 0)
		(void) fsync_fname_ext(MR_MAP_DIR, true, true, LOG);
	else if (errno != EEXIST)
		return false;
	return true;
}

/*
 * Lock the key against other builders; -1 when the directory does not allow
 * even that (then each session that has no file builds for itself).
 */
static int
lock_key(const uint8 *key)
{
	char		path[MAXPGPATH];
	struct flock range = {.l_type = F_WRLCK,.l_whence = SEEK_SET,.l_len = 1};
	uint64		place;
	int			fd;

	if (!make_directory())
		return -1;
	snprintf(path, sizeof(path), "%s/%u/lock", MR_MAP_DIR, MyDatabaseId);
	fd = OpenTransientFile(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | PG_BINARY);
	if (fd < 0)
		return -1;
	memcpy(&place, key + MR_MAP_KEY_SIZE / 2, sizeof(place));	/* keys may begin alike */
	range.l_start = (off_t) (place >> 2);	/* a byte that need not exist */
	while (fcntl(fd, MR_SETLK, &range) != 0)
	{
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
		{
			CloseTransientFile(fd);
			return -1;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOCK_POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return fd;
}

/*
 * Header and bytes into an empty file; false with errno on failure, ENOSPC for a short write.
 * A huge page of the file at a time: systems whose page cache can, hold it in huge pages then,
 * and translating addresses is a good part of the time of reading a network's weights.
 */
static bool
write_all(int fd, map_header *header, const void *bytes, size_t len)
{
	size_t		total = sizeof(*header) + len;
	size_t		at = 0;

	while (at < total)
	{
		size_t		end = Min(total, at - at % HUGE_PAGE + HUGE_PAGE);
		size_t		from = at < sizeof(*header) ? 0 : at - sizeof(*header);
		struct iovec part[2] = {
			{(char *) unconstify(void *, bytes) + from, end - sizeof(*header) - from},
			{0}
		};
		int			n_parts = 1;
		ssize_t		n;

		if (at < sizeof(*header))
		{
			part[1] = part[0];
			part[0] = (struct iovec) {(char *) header + at, sizeof(*header) - at};
			n_parts = 2;
		}
		errno = 0;
		n = pg_pwritev(fd, part, n_parts, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			return false;
		}
		at += n;
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* Make the file durable under its name.  False, logged, if that cannot be. */
static bool
write_file(const uint8 *key, const void *bytes, size_t len)
{
	char		path[MAXPGPATH];
	char		temp[MAXPGPATH + 32];
	char		dir[MAXPGPATH];
	map_header	header = {.magic = MAP_MAGIC,.length = len};
	volatile bool ok = false;
	struct stat st;
	int			fd;

	memcpy(header.key, key, MR_MAP_KEY_SIZE);
	header.bytes_crc = crc_of(bytes, len);
	header.header_crc = crc_of(&header, offsetof(map_header, header_crc));

	file_path(key, path);
	snprintf(dir, sizeof(dir), "%s/%u", MR_MAP_DIR, MyDatabaseId);
	snprintf(temp, sizeof(temp), "%s.%d.tmp", path, MyProcPid);
	(void) unlink(temp);		/* of a process that had our pid before */
	fd = OpenTransientFile(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | PG_BINARY);
	if (fd >= 0)
	{
		PG_TRY();
		{
			ok = write_all(fd, &header, bytes, len);
		}
		PG_CATCH();
		{
			(void) unlink(temp);
			PG_RE_THROW();
		}
		PG_END_TRY();
		ok = ok && pg_fsync(fd) == 0;
		ok = ok && fstat(fd, &st) == 0;
		ok = CloseTransientFile(fd) == 0 && ok;
		ok = ok && rename(temp, path) == 0;
	}
	if (!ok)
	{
		int			save_errno = errno;

		if (fd >= 0)
			(void) unlink(temp);
		errno = save_errno;
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write compiled model file \"%s\": %m", path),
				 errdetail("This session keeps a private copy of the model in its memory.")));
		return false;
	}
	(void) fsync_fname_ext(dir, true, true, LOG);
	mr_checked_add(key, &st);	/* written a moment ago */
	return true;
}

static void
release_entry(map_entry *entry)
{
	if (--entry->users > 0)
		return;
	if (entry->map)
		(void) munmap(entry->map, entry->map_len);
	if (entry->own)
		MemoryContextDelete(entry->own);
	(void) hash_search(entries, entry->key, HASH_REMOVE, NULL);
}

static map_entry *
remember(const uint8 *key, const map_entry *found)
{
	map_entry  *entry = hash_search(entries, key, HASH_ENTER, NULL);

	*entry = *found;
	memcpy(entry->key, key, MR_MAP_KEY_SIZE);
	return entry;
}

const void *
mr_map(const uint8 key[MR_MAP_KEY_SIZE], size_t *len, mr_map_build build, void *arg)
{
	map_entry  *entry;
	map_entry	found = {0};
	MemoryContext cxt;
	int			lock;

	if (entries == NULL)
	{
		HASHCTL		ctl = {.keysize = MR_MAP_KEY_SIZE,.entrysize = sizeof(map_entry)};

		entries = hash_create("millrace maps", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(entries, key, HASH_FIND, NULL);
	if (entry == NULL && map_file(key, &found))
		entry = remember(key, &found);
	if (entry)
	{
		entry->users++;
		*len = entry->len;
		return entry->bytes;
	}

	lock = lock_key(key);
	if (lock < 0 || !map_file(key, &found))
	{
		const void *bytes;
		size_t		size;

		cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace compiled model",
									ALLOCSET_DEFAULT_SIZES);
		build(arg, cxt, &bytes, &size);
		Assert(((uintptr_t) bytes & 63) == 0);
		if (lock >= 0 && write_file(key, bytes, size) && map_file(key, &found))
		{
			MemoryContextDelete(cxt);
			entry = remember(key, &found);
			ereport(DEBUG1, (errmsg_internal("compiled model file of %zu bytes made", size)));
			mr_map_collect();
		}
		else
		{
			found.bytes = bytes;
			found.len = size;
			found.own = cxt;
			entry = remember(key, &found);
			MemoryContextSetParent(cxt, TopMemoryContext);
		}
	}
	else
		entry = remember(key, &found);
	if (lock >= 0)
		CloseTransientFile(lock);
	entry->users++;
	*len = entry->len;
	return entry->bytes;
}

void
mr_map_release(const uint8 key[MR_MAP_KEY_SIZE])
{
	map_entry  *entry = entries ? hash_search(entries, key, HASH_FIND, NULL) : NULL;

	if (entry)
		release_entry(entry);
}

void
mr_map_discard(const uint8 key[MR_MAP_KEY_SIZE])
{
	mr_map_release(key);
	mr_map_remove_file(key);
}

void
mr_map_remove_file(const uint8 key[MR_MAP_KEY_SIZE])
{
	char		path[MAXPGPATH];

	file_path(key, path);
	(void) unlink(path);
}
