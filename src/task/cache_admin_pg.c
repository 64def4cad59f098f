/*
 * cache_admin_pg.c
 *	  create_cache(), alter_cache(), drop_cache(), cache_judge().
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "task/cache.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(millrace_create_cache);
PG_FUNCTION_INFO_V1(millrace_alter_cache);
PG_FUNCTION_INFO_V1(millrace_drop_cache);
PG_FUNCTION_INFO_V1(millrace_cache_judge);

/* Is user the role of this name, or a member?  Of a role that is gone only superusers are. */
static bool
may_act_as(Oid user, Oid role)
{
	return OidIsValid(role) ? has_privs_of_role(user, role) : superuser_arg(user);
}

void
tsk_cache_find(text *name, Oid user, bool manage, tsk_cache *cache)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID};
	Datum		arg = PointerGetDatum(name);
	HeapTuple	row;
	TupleDesc	desc;
	Datum		value[9];
	bool		null[9];
	bool		allowed;

	if (mr_run(&plan, "SELECT id, owner, encoder, threshold, ttl_s, capacity, sample, guard, roles FROM millrace.caches WHERE name = $1",
			   lengthof(types), types, &arg) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("cache \"%s\" does not exist", text_to_cstring(name)),
				 errhint("millrace.create_cache() makes one.")));
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	for (int i = 0; i < (int) lengthof(value); i++)
		value[i] = SPI_getbinval(row, desc, i + 1, &null[i]);
	cache->id = DatumGetInt32(value[0]);
	text_to_cstring_buffer(name, cache->name, sizeof(cache->name));
	cache->owner = get_role_oid(TextDatumGetCString(value[1]), true);
	cache->encoder = null[2] ? NULL : TextDatumGetCString(value[2]);
	cache->threshold = DatumGetFloat8(value[3]);
	cache->ttl_s = null[4] ? INFINITY : DatumGetFloat8(value[4]);
	cache->capacity = null[5] ? PG_INT64_MAX : DatumGetInt64(value[5]);
	cache->sample = DatumGetFloat8(value[6]);
	cache->guard = DatumGetBool(value[7]);
	allowed = may_act_as(user, cache->owner);
	if (!allowed && !manage)
	{
		Datum	   *role;
		int			n;

		deconstruct_array(DatumGetArrayTypeP(value[8]), TEXTOID, -1, false, TYPALIGN_INT, &role, NULL, &n);
		for (int i = 0; i < n && !allowed; i++)
		{
			Oid			oid = get_role_oid(TextDatumGetCString(role[i]), true);

			allowed = OidIsValid(oid) && has_privs_of_role(user, oid);
		}
	}
	if (!allowed)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for cache \"%s\"", cache->name),
				 manage ? errhint("Only members of its owner may change it.")
				 : errhint("Its owner may name your role in option \"roles\".")));
}

/* ---- options */

typedef struct option
{
	const char *name;
	enum
	{
		NUMBER,					/* within low .. high */
		BOOLEAN,
		ENCODER,
		ROLES
	}			type;
	bool		may_be_null;
	bool		whole;
	double		low,
				high;
} option;

static const option known[] = {
	{"threshold", NUMBER, .low = 0.1, .high = 1},
	{"ttl_s", NUMBER, .may_be_null = true, .low = 0.001, .high = 1e9},
	{"capacity", NUMBER, .may_be_null = true, .whole = true, .low = 1, .high = 1e9},
	{"encoder", ENCODER, .may_be_null = true},
	{"sample", NUMBER, .low = 0, .high = 1},
	{"guard", .type = BOOLEAN},
	{"roles", .type = ROLES},
};

static const option *
find(const char *name)
{
	StringInfoData names;

	for (int i = 0; i < (int) lengthof(known); i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i];
	initStringInfo(&names);
	for (int i = 0; i < (int) lengthof(known); i++)
		appendStringInfo(&names, "%s%s", i ? ", " : "", known[i].name);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" of a cache does not exist", name),
			 errhint("Options are %s.", names.data)));
}

static _Noreturn void
refuse(const option *o, const char *must_be)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" of a cache must be %s%s", o->name, must_be, o->may_be_null ? ", or null" : "")));
}

static void
check_roles(const option *o, const JsonbValue *v)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	item;

	if (v->type != jbvBinary || !JsonContainerIsArray(v->val.binary.data))
		refuse(o, "an array of names of roles");
	it = JsonbIteratorInit(v->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
		if (token == WJB_ELEM)
		{
			if (item.type != jbvString)
				refuse(o, "an array of names of roles");
			(void) get_role_oid(pnstrdup(item.val.string.val, item.val.string.len), false);
		}
}

static void
check_option(const option *o, const JsonbValue *v)
{
	if (v->type == jbvNull && o->may_be_null)
		return;
	switch (o->type)
	{
		case NUMBER:
			{
				double		n = v->type != jbvNumeric ? NAN :
					DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v->val.numeric)));

				if (!(n >= o->low && n <= o->high) || (o->whole && n != floor(n)))
					refuse(o, psprintf("a%s number from %g to %g", o->whole ? " whole" : "", o->low, o->high));
				break;
			}
		case BOOLEAN:
			if (v->type != jbvBool)
				refuse(o, "true or false");
			break;
		case ENCODER:
			if (v->type != jbvString)
				refuse(o, "the name of an encoder");
			break;
		case ROLES:
			check_roles(o, v);
			break;
	}
}

static void
check_options(Jsonb *options)
{
	JsonbIterator *it = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	const option *o = NULL;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options of a cache must be a JSON object"),
				 errhint("For example {\"threshold\": 0.85, \"ttl_s\": 600}.")));
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
			o = find(pnstrdup(v.val.string.val, v.val.string.len));
		else if (token == WJB_VALUE)
			check_option(o, &v);
}

/* What options say, over what stands in the row; a version of the encoder is chosen here, for good. */
#define NEW_VALUE(column, type) "CASE WHEN $2 ? '" column "' THEN ($2 ->> '" column "')::" type " ELSE " column " END"
#define SET_OPTIONS \
	"UPDATE millrace.caches SET threshold = " NEW_VALUE("threshold", "float8") ", ttl_s = " NEW_VALUE("ttl_s", "float8") ", " \
	"capacity = " NEW_VALUE("capacity", "numeric") "::int8, sample = " NEW_VALUE("sample", "float8") ", guard = " NEW_VALUE("guard", "bool") ", " \
	"encoder = CASE WHEN NULLIF($2 ->> 'encoder', '') IS NOT NULL THEN millrace.resolve_model($2 ->> 'encoder', 'encoder') " \
	"WHEN $2 ? 'encoder' THEN NULL ELSE encoder END, " \
	"roles = CASE WHEN $2 ? 'roles' THEN ARRAY(SELECT jsonb_array_elements_text($2 -> 'roles')) ELSE roles END WHERE id = $1"

static void
set_options(int32 id, Jsonb *options)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, JSONBOID};
	Datum		args[] = {Int32GetDatum(id), JsonbPGetDatum(options)};

	(void) mr_run(&plan, SET_OPTIONS, lengthof(types), types, args);
}

/* millrace.create_cache(name text, options jsonb) -> void */
Datum
millrace_create_cache(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, BOOLOID};
	text	   *name = PG_GETARG_TEXT_PP(0);
	Jsonb	   *options = PG_GETARG_JSONB_P(1);
	Datum		args[] = {PointerGetDatum(name), CStringGetTextDatum(GetUserNameFromId(GetUserId(), false)), (Datum) 0};
	JsonbValue	key = {.type = jbvString, .val.string = {.len = 7, .val = "encoder"}};
	mr_owner_save save;
	bool		null;
	int32		id;

	check_options(options);
	if (VARSIZE_ANY_EXHDR(name) == 0 || VARSIZE_ANY_EXHDR(name) > 128)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("a cache's name has 1 to 128 bytes")));
	args[2] = BoolGetDatum(findJsonbValueFromContainer(&options->root, JB_FOBJECT, &key) == NULL);
	mr_spi_begin(&save);
	if (mr_run(&plan, "INSERT INTO millrace.caches (name, owner, encoder) "
			   "VALUES ($1, $2, CASE WHEN $3 THEN millrace.resolve_model(NULL, 'encoder') END) ON CONFLICT (name) DO NOTHING RETURNING id",
			   lengthof(types), types, args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("cache \"%s\" already exists", text_to_cstring(name))));
	id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
	set_options(id, options);
	tsk_cache_count_anew(id);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}

/* millrace.alter_cache(name text, options jsonb) -> void: with another encoder it is emptied */
Datum
millrace_alter_cache(PG_FUNCTION_ARGS)
{
	Oid			user = GetUserId();
	mr_owner_save save;
	tsk_cache	cache,
				altered;

	check_options(PG_GETARG_JSONB_P(1));
	mr_spi_begin(&save);
	tsk_cache_find(PG_GETARG_TEXT_PP(0), user, true, &cache);
	set_options(cache.id, PG_GETARG_JSONB_P(1));
	tsk_cache_find(PG_GETARG_TEXT_PP(0), user, true, &altered);
	if (strcmp(cache.encoder ? cache.encoder : "", altered.encoder ? altered.encoder : "") != 0)
		(void) tsk_cache_empty(&cache, &(tsk_cache_scope) {{NULL}});
	mr_spi_end(&save);
	PG_RETURN_VOID();
}

/* millrace.drop_cache(name text) -> void */
Datum
millrace_drop_cache(PG_FUNCTION_ARGS)
{
	static const char *const deletes[] = {
		"DELETE FROM millrace.caches WHERE id = $1", "DELETE FROM millrace.cache_generations WHERE cache = $1",
		"DELETE FROM millrace.cache_judgements WHERE cache = $1", "DELETE FROM millrace.cache_entries WHERE cache = $1"
	};
	Oid			user = GetUserId();
	mr_owner_save save;
	tsk_cache	cache;

	mr_spi_begin(&save);
	tsk_cache_find(PG_GETARG_TEXT_PP(0), user, true, &cache);
	for (int i = 0; i < (int) lengthof(deletes); i++)
		if (SPI_execute_with_args(deletes[i], 1, (Oid[]) {INT4OID}, (Datum[]) {Int32GetDatum(cache.id)}, NULL, false, 0) < 0)
			elog(ERROR, "a statement about a cache failed");
	mr_spi_end(&save);
	PG_RETURN_VOID();
}

/* millrace.cache_judge(cache text, id bigint, same boolean, score double precision, question text) -> void */
Datum
millrace_cache_judge(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT8OID, BOOLOID, FLOAT8OID, TEXTOID, TEXTOID};
	Oid			user = GetUserId();
	mr_owner_save save;
	tsk_cache	cache;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("cache, id and same must not be null")));
	mr_spi_begin(&save);
	tsk_cache_find(PG_GETARG_TEXT_PP(0), user, false, &cache);
	mr_prepare(&plan, "INSERT INTO millrace.cache_judgements (cache, entry, same, score, question, judged_by) VALUES ($1, $2, $3, $4, $5, $6)",
			   lengthof(types), types);
	{
		Datum		args[] = {Int32GetDatum(cache.id), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3),
			PG_ARGISNULL(4) ? (Datum) 0 : PG_GETARG_DATUM(4), CStringGetTextDatum(GetUserNameFromId(user, false))
		};
		char		nulls[] = {' ', ' ', ' ', PG_ARGISNULL(3) ? 'n' : ' ', PG_ARGISNULL(4) ? 'n' : ' ', ' '};

		SPI_execute_plan(plan, args, nulls, false, 0);
	}
	mr_spi_end(&save);
	PG_RETURN_VOID();
}
