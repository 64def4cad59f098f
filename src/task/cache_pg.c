/*
 * cache_pg.c
 *	  cache_get(), cache_put().
 *
 * Looking up.  First the newest entry of the scope with the question's key.  Then the nearest vectors, in order, as long as
 * they are above the threshold: the first whose question says the same (millrace.meaning_conflict) is the hit.  In a scope
 * of few entries all are compared, else the index of all caches is asked.  No filter starves it, for vectors are stored with
 * signs that the scope chooses: angles within a scope are as they were, and vectors of two scopes, of whatever questions, are
 * nearly at right angles.  So the nearest of all are the scope's own, and where the next one is below the threshold there
 * is nothing of the scope either.  Isolation does not rest on that: each row's scope, generation and age are compared.
 *
 * Nothing is written but counters in shared memory.
 *
 * Putting appends.  What has to go goes with it: the question's older entries at once, expired ones and
 * those beyond the capacity now and then, as many as came meanwhile.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "core/compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "task/cache.h"
#include "task/jsonb_pg.h"
#include "task/tasks.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_cache_get);
PG_FUNCTION_INFO_V1(millrace_cache_put);

#define FEW_ENTRIES 64			/* of a scope: all are compared */
#define BYTES_FOR_ONE 20000000	/* ... and one more for each such part of the table */
#define MOST_CANDIDATES 200		/* above the threshold, that the guard looks at */
#define SWEEP_EVERY 32			/* puts */
#define SWEEP 128				/* entries */
#define EVICT_SHARE 100			/* the capacity is looked after each time a hundredth of it has come */

/* Columns of all statements that find entries. */
#define ENTRY "id, question, answer, source, source_generation, cost, latency_ms"
typedef struct entry
{
	int64		id;
	Datum		question;
	Datum		answer;
	text	   *source;
	int64		source_generation;
	double		cost;
	double		latency_ms;
	double		similarity;
} entry;

typedef struct lookup
{
	tsk_cache	cache;
	tsk_cache_scope scope;
	text	   *question;
	pg_uuid_t	hash;			/* of the scope */
	int64		generation;
	TimestampTz since;			/* older entries have expired */
	MemoryContext cxt;			/* of the caller: what is found outlives SPI */
	entry		found;
	tsk_cache_counts counts;
} lookup;

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Plans by index, whatever statistics say or do not say yet. */
static void
begin(mr_owner_save *save)
{
	static const char *const off[] = {"enable_seqscan", "enable_bitmapscan", "enable_sort", "jit"};

	mr_spi_begin(save);
	for (int i = 0; i < (int) lengthof(off); i++)
		set_local(off[i], "off");
	set_local("plan_cache_mode", "force_generic_plan");
}

static Datum
column(HeapTuple row, TupleDesc desc, int i)
{
	bool		null;
	Datum		d = SPI_getbinval(row, desc, i, &null);

	return null ? (Datum) 0 : d;
}

/* First row, first column of the statement run last. */
static int64
first_number(void)
{
	return DatumGetInt64(column(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
}

/* ---- the question as a vector */

static uint64
splitmix64(uint64 *state)
{
	uint64		z = *state += UINT64CONST(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64CONST(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* n numbers, filled up with zeros to the length of an index, with the signs of scope and generation. */
static ArrayType *
scoped_vector(const float *from, int n, const pg_uuid_t *scope, int64 generation, int dimensions)
{
	Size		size = ARR_OVERHEAD_NONULLS(1) + dimensions * sizeof(float);
	ArrayType  *array = palloc0(size);
	uint64		state,
				bits = 0;
	float	   *to;

	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->elemtype = FLOAT4OID;
	ARR_DIMS(array)[0] = dimensions;
	ARR_LBOUND(array)[0] = 1;
	to = (float *) ARR_DATA_PTR(array);
	memcpy(&state, scope->data, sizeof(state));
	state += (uint64) generation * UINT64CONST(0xd1342543de82ef95);
	for (int i = 0; i < n; i++)
	{
		if (i % 64 == 0)
			bits = splitmix64(&state);
		to[i] = bits >> i % 64 & 1 ? -from[i] : from[i];
	}
	return array;
}

/* The next length that there is an index of; 0: none. */
static int
index_length(int n)
{
	static const int lengths[] = {384, 768, 1024, 4096};

	for (int i = 0; i < (int) lengthof(lengths); i++)
		if (n <= lengths[i])
			return lengths[i];
	return 0;
}

/*
 * The vector of a lookup's question, in its memory context, and its length; NULL: the cache has no encoder, or the question
 * is longer than the encoder reads, so that questions with the same beginning would look alike.  What was embedded last is
 * remembered: a question that was not found is often put soon after.
 */
static ArrayType *
embed_question(const lookup *l, int *dimensions)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID};
	static char *last_encoder = NULL,
			   *last_question = NULL;
	static float *last = NULL;
	static int	n_last;
	char	   *question;
	MemoryContext old;
	ArrayType  *result = NULL;

	if (l->cache.encoder == NULL)
		return NULL;
	question = text_to_cstring(l->question);
	if (last == NULL || strcmp(last_question, question) != 0 || strcmp(last_encoder, l->cache.encoder) != 0)
	{
		Datum		args[] = {PointerGetDatum(l->question), CStringGetTextDatum(l->cache.encoder)};
		ArrayType  *e;

		(void) mr_run(&plan, "SELECT e.embedding FROM millrace.embed_long($1, $2) e WHERE NOT e.truncated", lengthof(types), types, args);
		if (SPI_processed == 0)
			return NULL;
		e = DatumGetArrayTypeP(column(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
		if (last)
		{
			pfree(last);
			pfree(last_question);
			pfree(last_encoder);
			last = NULL;
		}
		last_question = MemoryContextStrdup(TopMemoryContext, question);
		last_encoder = MemoryContextStrdup(TopMemoryContext, l->cache.encoder);
		n_last = ARR_DIMS(e)[0];
		last = MemoryContextAlloc(TopMemoryContext, n_last * sizeof(float));
		memcpy(last, ARR_DATA_PTR(e), n_last * sizeof(float));
	}
	*dimensions = index_length(n_last);
	old = MemoryContextSwitchTo(l->cxt);
	if (*dimensions > 0)
		result = scoped_vector(last, n_last, &l->hash, l->generation, *dimensions);
	MemoryContextSwitchTo(old);
	return result;
}

/* ---- looking up */

/* Cache, scope and generation of a call; begin() and SPI are the caller's. */
static void
open_lookup(lookup *l)
{
	tsk_cache_hash(&l->cache, &l->scope, &l->hash);
	l->generation = tsk_cache_generation(&l->cache, &l->scope, false);
	l->since = isinf(l->cache.ttl_s) ? DT_NOBEGIN : tsk_now() - (TimestampTz) (l->cache.ttl_s * USECS_PER_SEC);
}

/* Is a row of ENTRY from a source that was not emptied since?  Then it is the lookup's. */
static bool
take(lookup *l, HeapTuple row, TupleDesc desc, double similarity)
{
	text	   *source = DatumGetTextPP(column(row, desc, 4));
	int64		of_source = DatumGetInt64(column(row, desc, 5));
	MemoryContext old;

	l->scope.part[TSK_CACHE_SOURCE] = source;
	if (tsk_cache_generation(&l->cache, &l->scope, true) != of_source)
		return false;
	old = MemoryContextSwitchTo(l->cxt);
	l->found = (entry) {
		.id = DatumGetInt64(column(row, desc, 1)),
			.question = datumCopy(column(row, desc, 2), false, -1),
			.answer = PointerGetDatum(PG_DETOAST_DATUM_COPY(column(row, desc, 3))),
			.cost = DatumGetFloat8(column(row, desc, 6)),
			.latency_ms = DatumGetFloat8(column(row, desc, 7)),
			.similarity = similarity
	};
	MemoryContextSwitchTo(old);
	return true;
}

static bool
find_exact(lookup *l)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TEXTOID, INT8OID, TIMESTAMPTZOID};
	Datum		args[] = {UUIDPGetDatum(&l->hash), PointerGetDatum(l->question), Int64GetDatum(l->generation), TimestampTzGetDatum(l->since)};
	uint64		n = mr_run(&plan, "SELECT " ENTRY " FROM millrace.cache_entries WHERE scope = $1 AND key = millrace.question_key($2) AND generation = $3 "
						   "AND created_at > $4 ORDER BY scope DESC, key DESC, id DESC LIMIT 8", lengthof(types), types, args);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
		if (take(l, rows->vals[i], rows->tupdesc, 1))
			return true;
	return false;
}

/*
 * Are all entries of a scope sooner compared than the index is asked?  Its time grows with the table, theirs with pages that
 * may have to be read: one each.  Found out anew now and then.
 */
static bool
is_small(const lookup *l)
{
	static struct
	{
		pg_uuid_t	scope;
		bool		small;
		int			uses;		/* left */
	}			known[256];
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID};
	uint8		slot = l->hash.data[0];
	Datum		arg = UUIDPGetDatum(&l->hash);

	if (known[slot].uses == 0 || memcmp(&known[slot].scope, &l->hash, UUID_LEN) != 0)
	{
		(void) mr_run(&plan, "SELECT (SELECT count(*) FROM (SELECT 1 FROM millrace.cache_entries WHERE scope = $1 LIMIT few.n + 1) e) <= few.n "
					  "FROM (SELECT greatest(" CppAsString2(FEW_ENTRIES) ", pg_relation_size('millrace.cache_entries'::regclass) / " CppAsString2(BYTES_FOR_ONE) ") AS n) few",
					  lengthof(types), types, &arg);
		known[slot].scope = l->hash;
		known[slot].small = DatumGetBool(column(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
		known[slot].uses = 64;
	}
	known[slot].uses--;
	return known[slot].small;
}

/*
 * The nearest first.  Column 8 is the similarity; 9 whether the row is of the scope, generation and age; 10 why the guard
 * refuses it, only worked out of rows that are fetched.
 */
#define NEAR ENTRY ", similarity, mine, CASE WHEN mine AND similarity >= $7 AND $8 THEN millrace.meaning_conflict($6, question) END FROM (SELECT " ENTRY ", " \
	"1 - (embedding OPERATOR(millrace.<=>) $5) AS similarity, scope = $1 AND generation = $2 AND created_at > $3 AS mine FROM millrace.cache_entries "
#define BY_INDEX(n) "SELECT " NEAR "WHERE dimensions = " n " AND $4 IS NOT NULL ORDER BY embedding OPERATOR(millrace.<=>) $5) e"
#define BY_SCOPE "SELECT " NEAR "WHERE scope = $1 AND generation = $2 AND created_at > $3 AND dimensions = $4 OFFSET 0) e WHERE similarity >= $7 ORDER BY similarity DESC"

static SPIPlanPtr
near_plan(bool by_index, int dimensions)
{
	static SPIPlanPtr plans[5] = {NULL};
	static const char *const sql[] = {BY_INDEX("384"), BY_INDEX("768"), BY_INDEX("1024"), BY_INDEX("4096"), BY_SCOPE};
	static const Oid types[] = {UUIDOID, INT8OID, TIMESTAMPTZOID, INT2OID, FLOAT4ARRAYOID, TEXTOID, FLOAT8OID, BOOLOID};
	int			k = !by_index ? 4 : dimensions == 384 ? 0 : dimensions == 768 ? 1 : dimensions == 1024 ? 2 : 3;

	mr_prepare(&plans[k], sql[k], lengthof(types), types);
	return plans[k];
}

static bool
find_near(lookup *l)
{
	int			dimensions;
	ArrayType  *vector = embed_question(l, &dimensions);
	bool		by_index,
				found = false;
	Portal		portal;

	if (vector == NULL)
		return false;
	by_index = !is_small(l);
	{
		Datum		args[] = {UUIDPGetDatum(&l->hash), Int64GetDatum(l->generation), TimestampTzGetDatum(l->since), Int16GetDatum(dimensions),
		PointerGetDatum(vector), PointerGetDatum(l->question), Float8GetDatum(l->cache.threshold), BoolGetDatum(l->cache.guard)};

		portal = SPI_cursor_open(NULL, near_plan(by_index, dimensions), args, NULL, true);
	}
	for (int i = 0; i < MOST_CANDIDATES && !found; i++)
	{
		HeapTuple	row;
		TupleDesc	desc;
		double		similarity;

		SPI_cursor_fetch(portal, true, 1);
		if (SPI_processed == 0)
			break;
		row = SPI_tuptable->vals[0];
		desc = SPI_tuptable->tupdesc;
		similarity = DatumGetFloat8(column(row, desc, 8));
		if (!(similarity >= l->cache.threshold))
			break;
		if (!DatumGetBool(column(row, desc, 9)))
			continue;
		if (column(row, desc, 10) != (Datum) 0)
			l->counts.guarded = 1;
		else
			found = take(l, row, desc, similarity);
	}
	SPI_cursor_close(portal);
	return found;
}

/*
 * millrace.cache_get(cache text, question text, tenant text, model text, prompt_version text)
 *	  -> (hit text, id bigint, question text, answer jsonb, similarity double precision, sampled boolean)
 */
Datum
millrace_cache_get(PG_FUNCTION_ARGS)
{
	lookup		l = {.cxt = CurrentMemoryContext};
	Oid			user = GetUserId();
	instr_time	start,
				end;
	mr_owner_save save;
	const char *hit;
	TupleDesc	desc;
	Datum		values[6] = {0};
	bool		nulls[6] = {true, true, true, true, true, false};

	INSTR_TIME_SET_CURRENT(start);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	l.question = PG_GETARG_TEXT_PP(1);
	for (int i = 0; i < TSK_CACHE_SOURCE; i++)
		l.scope.part[i] = PG_ARGISNULL(2 + i) ? cstring_to_text("") : PG_GETARG_TEXT_PP(2 + i);
	begin(&save);
	tsk_cache_find(PG_GETARG_TEXT_PP(0), user, false, &l.cache);
	open_lookup(&l);
	hit = find_exact(&l) ? "exact" : find_near(&l) ? "semantic" : NULL;
	mr_spi_end(&save);
	if (hit)
	{
		bool		sampled = hit[0] == 's' && pg_prng_double(&pg_global_prng_state) < l.cache.sample;

		values[0] = CStringGetTextDatum(hit);
		values[1] = Int64GetDatum(l.found.id);
		values[2] = l.found.question;
		values[3] = l.found.answer;
		values[4] = Float8GetDatum(l.found.similarity);
		values[5] = BoolGetDatum(sampled);
		memset(nulls, 0, sizeof(nulls));
		l.counts.exact = hit[0] == 'e';
		l.counts.semantic = hit[0] == 's';
		l.counts.sampled = sampled;
		l.counts.cost_saved = l.found.cost;
		l.counts.ms_saved = l.found.latency_ms;
	}
	else
		l.counts.missed = 1;
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	l.counts.lookup_us = INSTR_TIME_GET_MICROSEC(end);
	tsk_cache_count(l.cache.id, &l.counts);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* ---- putting */

/* Entries of the same question that this transaction sees: no later lookup needs them. */
static void
replace(const lookup *l)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TEXTOID, INT4OID};
	Datum		args[] = {UUIDPGetDatum(&l->hash), PointerGetDatum(l->question), Int32GetDatum(l->cache.id)};

	(void) mr_run(&plan, "DELETE FROM millrace.cache_entries WHERE cache = $3 AND id = ANY (ARRAY(SELECT id FROM millrace.cache_entries "
				  "WHERE scope = $1 AND key = millrace.question_key($2) FOR UPDATE SKIP LOCKED))", lengthof(types), types, args);
}

/* The oldest that have expired. */
static void
sweep(const lookup *l)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID};
	Datum		args[] = {Int32GetDatum(l->cache.id), TimestampTzGetDatum(l->since)};

	(void) mr_run(&plan, "DELETE FROM millrace.cache_entries WHERE cache = $1 AND created_at <= $2 AND id = ANY (ARRAY(SELECT id FROM millrace.cache_entries "
				  "WHERE cache = $1 ORDER BY cache, id LIMIT " CppAsString2(SWEEP) " FOR UPDATE SKIP LOCKED))", lengthof(types), types, args);
}

/* The oldest beyond the capacity. */
static void
evict(lookup *l)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT8OID};
	Datum		args[] = {Int32GetDatum(l->cache.id), Int64GetDatum(l->cache.capacity)};

	l->counts.evicted = mr_run(&plan, "DELETE FROM millrace.cache_entries WHERE cache = $1 AND id = ANY (ARRAY(SELECT id FROM millrace.cache_entries "
							   "WHERE cache = $1 ORDER BY cache, id LIMIT greatest(0, (SELECT count(*) FROM millrace.cache_entries WHERE cache = $1) - $2) "
							   "FOR UPDATE SKIP LOCKED))", lengthof(types), types, args);
}

static bool
one_in(double n)
{
	return n <= 1 || pg_prng_double(&pg_global_prng_state) * n < 1;
}

/* A number of the argument, else of the answer's key, as results of tasks have it; else 0. */
static double
number_of(FunctionCallInfo fcinfo, int argno, Jsonb *answer, const char *name)
{
	JsonbValue *v;

	if (!PG_ARGISNULL(argno))
		return PG_GETARG_FLOAT8(argno);
	v = tsk_member(answer, name);
	return v == NULL || v->type != jbvNumeric ? 0 : DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v->val.numeric)));
}

/*
 * millrace.cache_put(cache text, question text, answer jsonb, tenant text, model text, prompt_version text, source text,
 *	  cost double precision, latency_ms double precision, generation bigint) -> bigint
 */
Datum
millrace_cache_put(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, UUIDOID, INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID, FLOAT8OID, FLOAT8OID, INT2OID, FLOAT4ARRAYOID,
	JSONBOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	lookup		l = {.cxt = CurrentMemoryContext};
	Oid			user = GetUserId();
	mr_owner_save save;
	ArrayType  *vector;
	int			dimensions = 0;
	int64		of_source,
				id;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("cache, question and answer must not be null")));
	l.question = PG_GETARG_TEXT_PP(1);
	for (int i = 0; i < TSK_CACHE_PARTS; i++)
		l.scope.part[i] = PG_ARGISNULL(3 + i) ? cstring_to_text("") : PG_GETARG_TEXT_PP(3 + i);
	begin(&save);
	tsk_cache_find(PG_GETARG_TEXT_PP(0), user, false, &l.cache);
	open_lookup(&l);
	of_source = tsk_cache_generation(&l.cache, &l.scope, true);
	if (!PG_ARGISNULL(9) && PG_GETARG_INT64(9) != l.generation + of_source)
	{
		mr_spi_end(&save);
		PG_RETURN_NULL();
	}
	/* Not where a row that another transaction deleted meanwhile would be an error. */
	if (!IsolationUsesXactSnapshot())
		replace(&l);
	vector = embed_question(&l, &dimensions);
	{
		Jsonb	   *answer = PG_GETARG_JSONB_P(2);
		Datum		args[] = {Int32GetDatum(l.cache.id), UUIDPGetDatum(&l.hash), Int64GetDatum(l.generation), Int64GetDatum(of_source),
			PointerGetDatum(l.question), TimestampTzGetDatum(tsk_now()),
			Float8GetDatum(number_of(fcinfo, 7, answer, "cost")), Float8GetDatum(number_of(fcinfo, 8, answer, "latency_ms")),
			Int16GetDatum(dimensions), PointerGetDatum(vector), JsonbPGetDatum(answer), PointerGetDatum(l.scope.part[TSK_CACHE_TENANT]),
			PointerGetDatum(l.scope.part[TSK_CACHE_MODEL]), PointerGetDatum(l.scope.part[TSK_CACHE_PROMPT]), PointerGetDatum(l.scope.part[TSK_CACHE_SOURCE])
		};

		(void) mr_run(&plan, "INSERT INTO millrace.cache_entries (cache, scope, generation, source_generation, key, created_at, cost, latency_ms, dimensions, embedding, "
					  "question, answer, tenant, model, prompt_version, source) "
					  "VALUES ($1, $2, $3, $4, millrace.question_key($5), $6, $7, $8, NULLIF($9, 0::int2), $10, $5, $11, $12, $13, $14, $15) RETURNING id",
					  lengthof(types), types, args);
	}
	id = first_number();
	if (!IsolationUsesXactSnapshot())
	{
		if (!isinf(l.cache.ttl_s) && one_in(SWEEP_EVERY))
			sweep(&l);
		if (l.cache.capacity != PG_INT64_MAX && one_in((double) l.cache.capacity / EVICT_SHARE))
			evict(&l);
	}
	mr_spi_end(&save);
	l.counts.put = 1;
	tsk_cache_count(l.cache.id, &l.counts);
	PG_RETURN_INT64(id);
}
