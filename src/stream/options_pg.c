/*
 * options_pg.c
 *	  The options of create_source, checked by name, kind and range, so that a
 *	  mistake is told to who makes it and not to a worker's log.  What they mean:
 *	  worker/settings_pg.c.
 */
#include "postgres.h"

#include "catalog/pg_constraint.h"
#include "core/server_pg.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "stream/options.h"
#include "stream/stream.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"

typedef struct option_rule
{
	const char *name;
	const char *words;			/* "a|b" allowed, or NULL */
	int64		low,
				high;			/* a whole number within; low > high: no number */
	void		(*check) (const char *name, const JsonbValue *v, Oid target);	/* instead of all that */
} option_rule;

static void check_name(const char *name, const JsonbValue *v, Oid target);
static void check_columns(const char *name, const JsonbValue *v, Oid target);
static void check_character(const char *name, const JsonbValue *v, Oid target);
static void check_text(const char *name, const JsonbValue *v, Oid target);
static void check_memory(const char *name, const JsonbValue *v, Oid target);
static void check_start(const char *name, const JsonbValue *v, Oid target);
static void check_header(const char *name, const JsonbValue *v, Oid target);
static void check_resolved(const char *name, const JsonbValue *v, Oid target);
static void check_topic(const char *name, const JsonbValue *v, Oid target);
static void check_server(const char *name, const JsonbValue *v, Oid target);
static void check_group(const char *name, const JsonbValue *v, Oid target);

static const option_rule rules[] = {
	{"owner", NULL, 1, 0, check_name},
	{"format", "json|csv|avro|text|bytes", 1, 0, NULL},
	{"columns", NULL, 1, 0, check_columns},
	{"transform", NULL, 1, 0, check_resolved},
	{"message_type", NULL, 1, 0, check_resolved},
	{"unknown_keys", "ignore|refuse", 1, 0, NULL},
	{"array", "refuse|rows", 1, 0, NULL},
	{"header", NULL, 1, 0, check_header},
	{"delimiter", NULL, 1, 0, check_character},
	{"quote", NULL, 1, 0, check_character},
	{"null", NULL, 1, 0, check_text},
	{"tombstones", "skip|dead_letter|delete", 1, 0, NULL},
	{"on_conflict", "update|nothing", 1, 0, NULL},
	{"key_format", "text|bytes|json|avro", 1, 0, NULL},
	{"start", NULL, 1, 0, check_start},
	{"workers", NULL, 1, KFK_MAX_WORKERS, NULL},
	{"batch_rows", NULL, 1, 100000, NULL},
	{"batch_bytes", NULL, 65536, 1 << 28, NULL},
	{"batch_ms", NULL, 0, 60000, NULL},
	{"batch_timeout_ms", NULL, 1000, 3600000, NULL},
	{"max_message_bytes", NULL, 1024, 1 << 28, NULL},
	{"max_dead_percent", NULL, 0, 100, NULL},
	{"workers_min", NULL, 1, KFK_MAX_WORKERS, NULL},
	{"workers_max", NULL, 1, KFK_MAX_WORKERS, NULL},
	{"memory", NULL, 1, 0, check_memory},
	{"partitions", NULL, 1, 0, check_resolved},
	{"control_topic", NULL, 1, 0, check_topic},
	{"lease_ms", NULL, 1000, 3600000, NULL},
	{"dead_window", NULL, 1, 1000000, NULL},
	{"max_dead_letters", NULL, 0, INT64CONST(1000000000000), NULL},
	{"max_dead_letter_bytes", NULL, 0, INT64CONST(1000000000000000), NULL},
	{"dead_letter_value_bytes", NULL, 0, 1 << 28, NULL},
	{"dead_letter_topic", NULL, 1, 0, check_topic},
	{"dead_letter_server", NULL, 1, 0, check_server},
	{"group", NULL, 1, 0, check_group},
};

static bool
is_number_within(const char *text, int64 low, int64 high)
{
	char	   *end;
	int64		n;

	errno = 0;
	n = strtoi64(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && n >= low && n <= high;
}

void
kfk_invalid_option(const char *name, const char *allowed)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for source option \"%s\"", name),
			 errhint("Allowed %s.", allowed)));
}

static text *
value_text(const JsonbValue *v)
{
	return v->type == jbvString ? cstring_to_text_with_len(v->val.string.val, v->val.string.len) :
		cstring_to_text(DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric))));
}

static void
check_name(const char *name, const JsonbValue *v, Oid target)
{
	if (v->type != jbvString || v->val.string.len == 0)
		kfk_invalid_option(name, "is the name of a role");
}

static void
check_server(const char *name, const JsonbValue *v, Oid target)
{
	if (v->type != jbvString || v->val.string.len == 0)
		kfk_invalid_option(name, "is the name of a server");
}

static void
check_text(const char *name, const JsonbValue *v, Oid target)
{
	if (v->type != jbvString)
		kfk_invalid_option(name, "is a text");
}

/* kfk_resolve_partitions() or kfk_resolve_transform() has looked at it. */
static void
check_resolved(const char *name, const JsonbValue *v, Oid target)
{
}

static void
check_topic(const char *name, const JsonbValue *v, Oid target)
{
	if (v->type != jbvString || v->val.string.len == 0 || v->val.string.len > 249)
		kfk_invalid_option(name, "is the name of a topic");
}

static void
check_group(const char *name, const JsonbValue *v, Oid target)
{
	if (v->type != jbvString || v->val.string.len == 0 || v->val.string.len > 249)
		kfk_invalid_option(name, "is the name of a consumer group");
}

/* One byte that is no line break; the quote may also be empty. */
static void
check_character(const char *name, const JsonbValue *v, Oid target)
{
	bool		good = v->type == jbvString && (v->val.string.len == 1 || (v->val.string.len == 0 && strcmp(name, "quote") == 0));

	if (!good || (v->val.string.len == 1 && strchr("\r\n", v->val.string.val[0]) != NULL) ||
		(v->val.string.len == 1 && IS_HIGHBIT_SET(v->val.string.val[0])))
		kfk_invalid_option(name, strcmp(name, "quote") == 0 ? "is one ASCII character other than a line break, or none" : "is one ASCII character other than a line break");
}

/* A time as text that reads the same in any session; NULL for earliest, latest or an offset; ERROR for anything else. */
static char *
start_time(const JsonbValue *v)
{
	char	   *text = v->type == jbvString ? pnstrdup(v->val.string.val, v->val.string.len) :
		v->type == jbvNumeric ? DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric))) : pstrdup("");
	TimestampTz time;
	struct pg_tm tm;
	fsec_t		fsec = 0;

	if (mr_is_one_of(text, "earliest|latest") || is_number_within(text, 0, PG_INT64_MAX))
		return NULL;
	if (v->type != jbvString)
		kfk_invalid_option("start", "are earliest, latest, an offset and a time");
	time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(time) || time < SetEpochTimestamp() || timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0 || tm.tm_year > 9999)
		kfk_invalid_option("start", "is a time from 1970 to 9999");
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int) fsec);
}

static void
check_start(const char *name, const JsonbValue *v, Oid target)
{
	(void) start_time(v);
}

/* "256MB", or a number of bytes. */
static void
check_memory(const char *name, const JsonbValue *v, Oid target)
{
	if (v->type != jbvString && v->type != jbvNumeric)
		kfk_invalid_option(name, "is an amount of memory, like \"256MB\"");
	(void) DirectFunctionCall1(pg_size_bytes, PointerGetDatum(value_text(v)));
}

/* true, false or the names of the fields in order. */
static void
check_header(const char *name, const JsonbValue *v, Oid target)
{
	JsonbIterator *it;
	JsonbValue	member;
	JsonbIteratorToken token;
	bool		good = v->type == jbvBinary && JsonContainerIsArray(v->val.binary.data);

	if (v->type == jbvBool)
		return;
	if (good)
	{
		it = JsonbIteratorInit(v->val.binary.data);
		while ((token = JsonbIteratorNext(&it, &member, true)) != WJB_DONE)
			good = good && (token != WJB_ELEM || member.type == jbvString);
	}
	if (!good)
		kfk_invalid_option(name, "are true, false and an array of the fields' names");
}

/* {"json key": "column", …}: every column must exist in the target. */
static void
check_columns(const char *name, const JsonbValue *v, Oid target)
{
	JsonbIterator *it;
	JsonbValue	member;
	JsonbIteratorToken token;
	Bitmapset  *seen = NULL;

	if (v->type != jbvBinary || !JsonContainerIsObject(v->val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source option \"columns\" must be an object"),
				 errhint("It maps keys of the message to columns: {\"id\": \"image_id\"}.")));
	it = JsonbIteratorInit(v->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &member, true)) != WJB_DONE)
	{
		char	   *column;

		if (token == WJB_KEY && member.val.string.len > 0 && member.val.string.val[0] == '$' &&
			!mr_is_one_of(pnstrdup(member.val.string.val, member.val.string.len), KFK_PROPERTIES))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown property \"%.*s\" in source option \"columns\"", member.val.string.len, member.val.string.val),
					 errhint("Properties of a message are %s.", KFK_PROPERTIES)));
		if (token != WJB_VALUE)
			continue;
		column = member.type == jbvString ? pnstrdup(member.val.string.val, member.val.string.len) : pstrdup("");
		if (get_attnum(target, column) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of source option \"columns\" does not exist in table \"%s\"", column,
							OidIsValid(target) ? get_rel_name(target) : "?")));
		if (bms_is_member(get_attnum(target, column), seen))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("source option \"columns\" maps two keys to column \"%s\"", column),
					 errhint("Option \"transform\" can choose between keys.")));
		seen = bms_add_member(seen, get_attnum(target, column));
	}
}

static void
check_option(const char *name, const JsonbValue *v, Oid target)
{
	StringInfoData known;
	char	   *text;

	for (int i = 0; i < (int) lengthof(rules); i++)
	{
		const option_rule *r = &rules[i];

		if (strcmp(r->name, name) != 0)
			continue;
		if (r->check)
		{
			r->check(name, v, target);
			return;
		}
		text = v->type == jbvString ? pnstrdup(v->val.string.val, v->val.string.len) :
			v->type == jbvNumeric ? DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric))) : pstrdup("");
		if ((r->words && mr_is_one_of(text, r->words)) || (r->low <= r->high && is_number_within(text, r->low, r->high)))
			return;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for source option \"%s\"", name),
				 r->words && r->low <= r->high ? errhint("Allowed are %s, or a whole number from " INT64_FORMAT ".", r->words, r->low) :
				 r->words ? errhint("Allowed are %s.", r->words) :
				 errhint("Allowed is a whole number from " INT64_FORMAT " to " INT64_FORMAT ".", r->low, r->high)));
	}
	initStringInfo(&known);
	for (int i = 0; i < (int) lengthof(rules); i++)
		appendStringInfo(&known, "%s%s", i ? ", " : "", rules[i].name);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown source option \"%s\"", name),
			 errhint("Options are %s.", known.data)));
}

/* A number among options that have been checked; if_none where it is not there. */
static int64
number_of(Jsonb *options, const char *name, int64 if_none)
{
	JsonbValue	buffer;
	JsonbValue *v = getKeyJsonValueFromContainer(&options->root, name, (int) strlen(name), &buffer);

	if (v == NULL || (v->type != jbvNumeric && v->type != jbvString))
		return if_none;
	return strtoi64(text_to_cstring(value_text(v)), NULL, 10);
}

static void
check_workers(Jsonb *options)
{
	int64		all = number_of(options, "workers", 0);
	int64		low = number_of(options, "workers_min", 0);
	int64		high = number_of(options, "workers_max", 0);

	if (all > 0 && (low > 0 || high > 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source option \"workers\" excludes workers_min and workers_max"),
				 errhint("It stands for both of them.")));
	if (high > 0 && low > high)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source option \"workers_min\" (%d) is more than workers_max (%d)", (int) low, (int) high)));
}

/* Memory for each worker, and a batch that fits into it. */
static void
check_budget(Jsonb *options)
{
	JsonbValue	buffer;
	JsonbValue *memory = getKeyJsonValueFromContainer(&options->root, "memory", 6, &buffer);
	int64		workers = Max(number_of(options, "workers", 1), Max(number_of(options, "workers_min", 1), number_of(options, "workers_max", 1)));
	int64		batch = number_of(options, "batch_bytes", 0);
	int64		share;

	if (memory == NULL || memory->type == jbvNull)
		return;
	share = DatumGetInt64(DirectFunctionCall1(pg_size_bytes, PointerGetDatum(value_text(memory)))) / workers;
	if (share < KFK_MEMORY_MIN || share > INT64CONST(1) << 40)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for source option \"memory\""),
				 errhint("Allowed are %d MB to 1 TB for each of its %d workers.", KFK_MEMORY_MIN / (1024 * 1024), (int) workers)));
	if (batch > share / KFK_MEMORY_PARTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source option \"batch_bytes\" does not fit into option \"memory\""),
				 errdetail("A batch may have an eighth of a worker's share, " INT64_FORMAT " bytes.", share / KFK_MEMORY_PARTS)));
}

/* What an option needs of the others and of the target. */
static void
check_together(Jsonb *options, Oid target)
{
	JsonbValue	buffer;
	JsonbValue *tombstones = getKeyJsonValueFromContainer(&options->root, "tombstones", 10, &buffer);
	bool		deletes = tombstones && tombstones->type == jbvString && tombstones->val.string.len == 6;
	bool		conflict = getKeyJsonValueFromContainer(&options->root, "on_conflict", 11, &buffer) != NULL;
	bool		key = getKeyJsonValueFromContainer(&options->root, "key_format", 10, &buffer) != NULL;
	Oid			constraint;

	if (getKeyJsonValueFromContainer(&options->root, "control_topic", 13, &buffer) != NULL &&
		getKeyJsonValueFromContainer(&options->root, "partitions", 10, &buffer) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source option \"control_topic\" needs option \"partitions\"")));
	check_workers(options);
	check_budget(options);
	if (deletes && !conflict)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source option \"tombstones\": \"delete\" needs option \"on_conflict\""),
				 errhint("A key that is deleted may come again: {\"on_conflict\": \"update\", \"tombstones\": \"delete\"}.")));
	if ((conflict || key) && get_primary_key_attnos(target, false, &constraint) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("table \"%s\" has no primary key", get_rel_name(target)),
				 errdetail("Source option \"%s\" needs one that is not deferrable.", conflict ? "on_conflict" : "key_format")));
}

Jsonb *
kfk_replace_option(Jsonb *options, const char *name, const char *text)
{
	StringInfoData one;

	initStringInfo(&one);
	appendStringInfo(&one, "{\"%s\": ", name);
	escape_json(&one, text);
	appendStringInfoChar(&one, '}');
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(options), DirectFunctionCall1(jsonb_in, CStringGetDatum(one.data))));
}

/* The options with a time in option start as any session reads it. */
static Jsonb *
resolve_start(Jsonb *options)
{
	JsonbValue	buffer;
	JsonbValue *v = getKeyJsonValueFromContainer(&options->root, "start", 5, &buffer);
	char	   *time = v ? start_time(v) : NULL;

	return time ? kfk_replace_option(options, "start", time) : options;
}

char *
kfk_check_options(Jsonb **given, Oid target)
{
	Jsonb	   *options = *given;
	Oid			columns_of = target;
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	char	   *name = NULL;
	char	   *owner = NULL;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options of a source must be a JSON object")));
	*given = options = kfk_resolve_partitions(resolve_start(kfk_resolve_transform(options, target, &columns_of)));
	it = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE)
		{
			if (strcmp(name, "columns") == 0)
				check_columns(name, &v, columns_of);
			else
				check_option(name, &v, target);
			if (strcmp(name, "owner") == 0)
				owner = pnstrdup(v.val.string.val, v.val.string.len);
		}
	}
	check_together(options, target);
	return owner;
}
