/*
 * cache.h
 *	  The semantic cache: what its SQL functions share (docs/cache.md).
 *
 * A cache belongs to the role that made it.  Members of that role and of the
 * roles in its option "roles" use it; only members of its owner change it.
 * Rows are read and written as the extension's owner, by fixed statements.
 * Memory: the caller's context.
 */
#ifndef MILLRACE_TASK_CACHE_H
#define MILLRACE_TASK_CACHE_H

#include "postgres.h"

#include "core/spi_pg.h"
#include "utils/uuid.h"

/* A row of millrace.caches. */
typedef struct tsk_cache
{
	int32		id;
	char		name[129];
	Oid			owner;			/* InvalidOid: the role is gone */
	char	   *encoder;		/* NULL: exact hits only */
	double		threshold;
	double		ttl_s;			/* infinity: for ever */
	int64		capacity;		/* PG_INT64_MAX: any number */
	double		sample;
	bool		guard;
} tsk_cache;

/*
 * The cache of a name, within SPI as the extension's owner; user is who asks.
 * Raises 42704 where there is none, 42501 where user may not use it (manage: change it).
 */
extern void tsk_cache_find(text *name, Oid user, bool manage, tsk_cache *cache);

/* ---- cache_clear_pg.c: scopes and generations */

/* What an answer depends on; NULL members of a condition stand for any. */
typedef enum tsk_cache_part
{
	TSK_CACHE_TENANT,
	TSK_CACHE_MODEL,
	TSK_CACHE_PROMPT,
	TSK_CACHE_SOURCE,
	TSK_CACHE_PARTS
} tsk_cache_part;

typedef struct tsk_cache_scope
{
	text	   *part[TSK_CACHE_PARTS];
} tsk_cache_scope;

extern void tsk_cache_hash(const tsk_cache *cache, const tsk_cache_scope *scope, pg_uuid_t *out);

/* Generations of tenant, model and prompt version, added up; of_source: those that name the source, too.  Within SPI. */
extern int64 tsk_cache_generation(const tsk_cache *cache, const tsk_cache_scope *scope, bool of_source);

/* Entries that meet the condition are returned no more, from the commit of this transaction on.  Within SPI; the condition's generation. */
extern int64 tsk_cache_empty(const tsk_cache *cache, const tsk_cache_scope *condition);

/* ---- cache_stat_pg.c: counters in shared memory, since the server's start */

typedef struct tsk_cache_counts
{
	uint64		exact;
	uint64		semantic;
	uint64		missed;
	uint64		guarded;		/* lookups in which the guard refused an entry above the threshold */
	uint64		sampled;
	uint64		put;
	uint64		evicted;
	uint64		cleared;		/* calls of cache_clear() */
	double		cost_saved;
	double		ms_saved;
	uint64		lookup_us;		/* spent in cache_get() */
} tsk_cache_counts;

/* Memory for them is reserved when preloading. */
extern void tsk_cache_stat_init(void);
extern void tsk_cache_count(int32 cache, const tsk_cache_counts *more);

/* A new cache: what was counted under its number was another one's, of an extension that is gone. */
extern void tsk_cache_count_anew(int32 cache);

#endif							/* MILLRACE_TASK_CACHE_H */
