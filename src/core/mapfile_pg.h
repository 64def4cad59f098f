/*
 * mapfile_pg.h
 *	  One read-only copy of derived bytes (a compiled model) for all sessions.
 *
 * A file is a cache entry: it can always be built again from the catalogue, so
 * it is not WAL-logged, not backed up, and anybody may remove it at any time.
 */
#ifndef MILLRACE_MAPFILE_PG_H
#define MILLRACE_MAPFILE_PG_H

#include "utils/palloc.h"

#define MR_MAP_KEY_SIZE 32

/*
 * Makes the bytes: 64-byte aligned (mr_pg_env(cxt) allocates so), in cxt.  It
 * is called at most once in the whole server at a time for a key.  May ereport.
 */
typedef void (*mr_map_build) (void *arg, MemoryContext cxt, const void **bytes, size_t *len);

/*
 * The bytes of key, 64-byte aligned: mapped before, mapped now, or built now.
 * They stay until mr_map_release() or mr_map_discard() in this backend.  Waits,
 * interruptibly, while another session builds the same.  When no file can be
 * written (disk full, read-only), the copy is this backend's own memory.
 */
extern const void *mr_map(const uint8 key[MR_MAP_KEY_SIZE], size_t *len,
						  mr_map_build build, void *arg);

/* Give up the bytes; the file stays. */
extern void mr_map_release(const uint8 key[MR_MAP_KEY_SIZE]);

/* Remove the file too: its content proved damaged. */
extern void mr_map_discard(const uint8 key[MR_MAP_KEY_SIZE]);

/* Remove only the file: whoever has it mapped, this backend too, keeps it. */
extern void mr_map_remove_file(const uint8 key[MR_MAP_KEY_SIZE]);

/* Remove the files whose keys begin so, as above. */
extern void mr_map_remove_files(const uint8 *prefix, int len);

/*
 * Remove the files of dropped databases, left-overs of crashes, and the least
 * recently mapped files beyond millrace.model_cache_size.  Called after each
 * file made; needs a transaction.
 */
extern void mr_map_collect(void);

/* Defines millrace.model_cache_size. */
extern void mr_map_init(void);

#endif							/* MILLRACE_MAPFILE_PG_H */
