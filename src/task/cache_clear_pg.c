/*
 * cache_clear_pg.c
 *	  Scopes of caches, and emptying them: cache_clear(), cache_generation(),
 *	  the trigger clear_cache(), cache_sweep().
 *
 * A condition is a set of values of tenant, model, prompt_version and source, as few or
 * many as one likes; a row of millrace.cache_generations says how often what it
 * meets was emptied.  What an entry is valid by is the sum over all conditions that
 * it meets.  Each only grows, so the sum is the same only if each is.  Thus emptying is one row,
 * whatever it empties, in the caller's transaction, and taken back with it.
 *
 * Locks: emptying holds the lock of its row until the end of the transaction; who looks up or puts waits for nobody.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "core/compat.h"
#include "core/sha256.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "task/cache.h"
#include "task/tasks.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_cache_clear);
PG_FUNCTION_INFO_V1(millrace_cache_generation);
PG_FUNCTION_INFO_V1(millrace_clear_cache);
PG_FUNCTION_INFO_V1(millrace_cache_sweep);

#define SOURCE_BIT (1 << TSK_CACHE_SOURCE)
#define SCOPES (1 << TSK_CACHE_SOURCE)	/* conditions without a source that an entry meets */

/* First half of the SHA-256 of cache and the parts whose bits are set, each with its length: no two sets are alike. */
static void
hash_parts(const tsk_cache *cache, const tsk_cache_scope *scope, int bits, pg_uuid_t *out)
{
	mr_sha256	h;
	uint8_t		digest[32];
	uint8_t		head[5] = {(uint8_t) bits, (uint8_t) (cache->id >> 24), (uint8_t) (cache->id >> 16), (uint8_t) (cache->id >> 8), (uint8_t) cache->id};

	mr_sha256_init(&h);
	mr_sha256_add(&h, head, sizeof(head));
	for (int i = 0; i < TSK_CACHE_PARTS; i++)
		if (bits & 1 << i)
		{
			uint32		len = VARSIZE_ANY_EXHDR(scope->part[i]);

			mr_sha256_add(&h, &len, sizeof(len));
			mr_sha256_add(&h, VARDATA_ANY(scope->part[i]), len);
		}
	mr_sha256_end(&h, digest);
	memcpy(out->data, digest, UUID_LEN);
}

void
tsk_cache_hash(const tsk_cache *cache, const tsk_cache_scope *scope, pg_uuid_t *out)
{
	hash_parts(cache, scope, SCOPES - 1, out);
}

int64
tsk_cache_generation(const tsk_cache *cache, const tsk_cache_scope *scope, bool of_source)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDARRAYOID};
	pg_uuid_t	key[SCOPES];
	Datum		keys[SCOPES];
	Datum		arg;
	bool		null;

	for (int bits = 0; bits < SCOPES; bits++)
	{
		hash_parts(cache, scope, bits | (of_source ? SOURCE_BIT : 0), &key[bits]);
		keys[bits] = UUIDPGetDatum(&key[bits]);
	}
	arg = PointerGetDatum(construct_array(keys, SCOPES, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	(void) mr_run(&plan, "SELECT COALESCE(sum(generation), 0)::int8 FROM millrace.cache_generations WHERE key = ANY ($1)",
				  lengthof(types), types, &arg);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

int64
tsk_cache_empty(const tsk_cache *cache, const tsk_cache_scope *condition)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, INT4OID};
	pg_uuid_t	key;
	Datum		args[] = {UUIDPGetDatum(&key), Int32GetDatum(cache->id)};
	bool		null;
	int			bits = 0;

	for (int i = 0; i < TSK_CACHE_PARTS; i++)
		bits |= condition->part[i] ? 1 << i : 0;
	hash_parts(cache, condition, bits, &key);
	(void) mr_run(&plan, "INSERT INTO millrace.cache_generations AS g (key, cache) VALUES ($1, $2) "
				  "ON CONFLICT (key) DO UPDATE SET generation = g.generation + 1, emptied_at = clock_timestamp() RETURNING generation",
				  lengthof(types), types, args);
	tsk_cache_count(cache->id, &(tsk_cache_counts) {.cleared = 1});
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

static tsk_cache_scope
scope_of_args(FunctionCallInfo fcinfo, int first)
{
	tsk_cache_scope scope;

	for (int i = 0; i < TSK_CACHE_PARTS; i++)
		scope.part[i] = PG_ARGISNULL(first + i) ? NULL : PG_GETARG_TEXT_PP(first + i);
	return scope;
}

static text *
name_arg(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the cache must not be null")));
	return PG_GETARG_TEXT_PP(0);
}

/* millrace.cache_clear(cache text, tenant text, model text, prompt_version text, source text) -> bigint */
Datum
millrace_cache_clear(PG_FUNCTION_ARGS)
{
	tsk_cache_scope condition = scope_of_args(fcinfo, 1);
	text	   *name = name_arg(fcinfo);
	Oid			user = GetUserId();
	mr_owner_save save;
	tsk_cache	cache;
	int64		generation;

	mr_spi_begin(&save);
	tsk_cache_find(name, user, false, &cache);
	generation = tsk_cache_empty(&cache, &condition);
	mr_spi_end(&save);
	PG_RETURN_INT64(generation);
}

/* millrace.cache_generation(cache text, tenant text, model text, prompt_version text, source text) -> bigint */
Datum
millrace_cache_generation(PG_FUNCTION_ARGS)
{
	tsk_cache_scope scope = scope_of_args(fcinfo, 1);
	text	   *name = name_arg(fcinfo);
	Oid			user = GetUserId();
	mr_owner_save save;
	tsk_cache	cache;
	int64		generation;

	for (int i = 0; i < TSK_CACHE_PARTS; i++)
		if (scope.part[i] == NULL)
			scope.part[i] = cstring_to_text("");
	mr_spi_begin(&save);
	tsk_cache_find(name, user, false, &cache);
	generation = tsk_cache_generation(&cache, &scope, false) + tsk_cache_generation(&cache, &scope, true);
	mr_spi_end(&save);
	PG_RETURN_INT64(generation);
}

/*
 * millrace.clear_cache() -> trigger: (cache [, source]).  Who may write into a table need have no right on the cache;
 * the table's owner must.
 */
Datum
millrace_clear_cache(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	tsk_cache_scope condition = {{NULL}};
	mr_owner_save save;
	tsk_cache	cache;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) || trigger->tg_trigger->tgnargs < 1 ||
		trigger->tg_trigger->tgnargs > 2)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("millrace.clear_cache() must be a trigger FOR EACH STATEMENT, with the cache and perhaps the source as its arguments")));
	if (trigger->tg_trigger->tgnargs == 2)
		condition.part[TSK_CACHE_SOURCE] = cstring_to_text(trigger->tg_trigger->tgargs[1]);
	mr_spi_begin(&save);
	tsk_cache_find(cstring_to_text(trigger->tg_trigger->tgargs[0]), trigger->tg_relation->rd_rel->relowner, false, &cache);
	(void) tsk_cache_empty(&cache, &condition);
	mr_spi_end(&save);
	PG_RETURN_POINTER(NULL);
}

/* ---- entries that nobody gets any more */

/* Is a group of entries, a row of the statement below, still what would be put now? */
static bool
group_is_valid(const tsk_cache *cache, HeapTuple row, TupleDesc desc)
{
	tsk_cache_scope scope;
	bool		null;
	int64		generation = DatumGetInt64(SPI_getbinval(row, desc, 5, &null)),
				of_source = DatumGetInt64(SPI_getbinval(row, desc, 6, &null));

	for (int i = 0; i < TSK_CACHE_PARTS; i++)
		scope.part[i] = DatumGetTextPP(SPI_getbinval(row, desc, i + 1, &null));
	return generation == tsk_cache_generation(cache, &scope, false) && of_source == tsk_cache_generation(cache, &scope, true);
}

static int64
sweep_groups(const tsk_cache *cache, int64 most)
{
	static const Oid types[] = {INT4OID};
	static const Oid one_types[] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID};
	static SPIPlanPtr groups = NULL,
				delete = NULL;
	Datum		arg = Int32GetDatum(cache->id);
	uint64		n = mr_run(&groups, "SELECT tenant, model, prompt_version, source, generation, source_generation FROM millrace.cache_entries "
						   "WHERE cache = $1 GROUP BY 1, 2, 3, 4, 5, 6", lengthof(types), types, &arg);
	SPITupleTable *rows = SPI_tuptable;
	int64		gone = 0;

	for (uint64 i = 0; i < n && gone < most; i++)
	{
		Datum		args[lengthof(one_types)] = {arg};
		bool		null;

		CHECK_FOR_INTERRUPTS();
		if (group_is_valid(cache, rows->vals[i], rows->tupdesc))
			continue;
		for (int k = 0; k < 6; k++)
			args[k + 1] = SPI_getbinval(rows->vals[i], rows->tupdesc, k + 1, &null);
		args[7] = Int64GetDatum(most - gone);
		gone += (int64) mr_run(&delete, "DELETE FROM millrace.cache_entries WHERE cache = $1 AND id = ANY (ARRAY(SELECT id FROM millrace.cache_entries "
							   "WHERE cache = $1 AND tenant = $2 AND model = $3 AND prompt_version = $4 AND source = $5 AND generation = $6 "
							   "AND source_generation = $7 LIMIT $8 FOR UPDATE SKIP LOCKED))", lengthof(one_types), one_types, args);
	}
	return gone;
}

/* millrace.cache_sweep(cache text, most bigint) -> bigint */
Datum
millrace_cache_sweep(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID, INT8OID};
	text	   *name = name_arg(fcinfo);
	int64		most = PG_ARGISNULL(1) ? PG_INT64_MAX : Max(PG_GETARG_INT64(1), 0);
	Oid			user = GetUserId();
	mr_owner_save save;
	tsk_cache	cache;
	int64		gone = 0;

	mr_spi_begin(&save);
	tsk_cache_find(name, user, false, &cache);
	if (!isinf(cache.ttl_s))
	{
		Datum		args[] = {Int32GetDatum(cache.id), TimestampTzGetDatum(tsk_now() - (TimestampTz) (cache.ttl_s * USECS_PER_SEC)), Int64GetDatum(most)};

		gone = (int64) mr_run(&plan, "DELETE FROM millrace.cache_entries WHERE cache = $1 AND id = ANY (ARRAY(SELECT id FROM millrace.cache_entries "
							  "WHERE cache = $1 AND created_at <= $2 LIMIT $3 FOR UPDATE SKIP LOCKED))", lengthof(types), types, args);
	}
	gone += sweep_groups(&cache, most - gone);
	mr_spi_end(&save);
	PG_RETURN_INT64(gone);
}
