/*
 * share_pg.c
 *	  Several database servers share a topic: option partitions, and
 *	  take_partitions, release_partitions and take_over, which change it.
 *
 * The option says which partitions this server reads.  Without option
 * control_topic that is all there is, and whoever administers the servers sees
 * to it that no partition is read by two.  With it, a row of source_shares says
 * for each partition what is asked for, and the source's workers bring it about
 * by the protocol of docs/sharing.md (worker/share_pg.c).
 *
 * Locks: the source's row as its other functions do, then rows of source_offsets
 * (waiting for the batch in progress) and of source_shares.
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/pg_type.h"
#include "core/spi_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "stream/admin.h"
#include "stream/options.h"
#include "stream/stream.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(millrace_take_partitions);
PG_FUNCTION_INFO_V1(millrace_release_partitions);
PG_FUNCTION_INFO_V1(millrace_take_over);

/* ---- the option ---- */

static void
bad_list(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for source option \"partitions\""),
			 errdetail("%s", detail),
			 errhint("It is a list of numbers from 0 to %d: [0, 1, 2, 3] or \"0-3, 7\".", KFK_MAX_PARTITION)));
}

/* A number at *text, which is moved behind it and the blanks that follow. */
static int
list_number(const char **text)
{
	char	   *end;
	long		n;

	errno = 0;
	n = strtol(*text, &end, 10);
	if (end == *text || errno != 0 || n < 0 || n > KFK_MAX_PARTITION)
		bad_list(psprintf("There is no such number at \"%s\".", *text));
	while (*end == ' ')
		end++;
	*text = end;
	return (int) n;
}

/* "0-3, 7" */
static Bitmapset *
parse_list(const char *text)
{
	Bitmapset  *set = NULL;

	while (*text == ' ')
		text++;
	while (*text)
	{
		int			from = list_number(&text);
		int			to = from;

		if (*text == '-')
		{
			text++;
			to = list_number(&text);
		}
		if (to < from)
			bad_list(psprintf("%d-%d is empty.", from, to));
		set = bms_add_range(set, from, to);
		if (*text == ',' && text[1] != '\0')
			text++;
		else if (*text)
			bad_list(psprintf("\"%s\" was not expected.", text));
	}
	return set;
}

Jsonb *
kfk_resolve_partitions(Jsonb *options)
{
	JsonbValue	buffer;
	JsonbValue *v = getKeyJsonValueFromContainer(&options->root, "partitions", 10, &buffer);
	Bitmapset  *set = NULL;
	StringInfoData list;
	int			p = -1;

	if (v == NULL)
		return options;
	if (v->type == jbvString)
		set = parse_list(pnstrdup(v->val.string.val, v->val.string.len));
	else if (v->type == jbvBinary && JsonContainerIsArray(v->val.binary.data))
	{
		JsonbIterator *it = JsonbIteratorInit(v->val.binary.data);
		JsonbValue	member;
		JsonbIteratorToken token;

		while ((token = JsonbIteratorNext(&it, &member, true)) != WJB_DONE)
			if (token == WJB_ELEM)
			{
				const char *text = member.type != jbvNumeric ? "" :
					DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(member.val.numeric)));

				set = bms_add_member(set, list_number(&text));
				if (*text)
					bad_list("A partition is a whole number.");
			}
	}
	else
		bad_list("It is neither an array nor a text.");
	initStringInfo(&list);
	appendStringInfoString(&list, "{\"partitions\": [");
	while ((p = bms_next_member(set, p)) >= 0)
		appendStringInfo(&list, "%s%d", list.data[list.len - 1] == '[' ? "" : ", ", p);
	appendStringInfoString(&list, "]}");
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(options), DirectFunctionCall1(jsonb_in, CStringGetDatum(list.data))));
}

/* ---- the functions ---- */

/* Arguments of a call: those of take_over, a prefix of which are those of the others. */
typedef struct change
{
	char	   *source;
	Oid			types[4];
	Datum		values[4];		/* source, partitions, next_offsets, accept_duplicates */
	char		nulls[5];
	bool		controlled;		/* the source has a control topic */
} change;

/* int[] or bigint[] of one dimension without nulls, of n elements (-1: any number but none). */
static int
check_array(ArrayType *array, int n, const char *what)
{
	int			length = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array) || length == 0 || (n >= 0 && length != n))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 n >= 0 ? errmsg("%s must have one value for each partition", what) : errmsg("%s must be an array of numbers", what)));
	return length;
}

static void
read_arguments(FunctionCallInfo fcinfo, change *c)
{
	static const Oid types[4] = {TEXTOID, INT4ARRAYOID, INT8ARRAYOID, BOOLOID};
	ArrayType  *numbers;
	Bitmapset  *seen = NULL;
	int			n;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("source and partitions must not be null")));
	memcpy(c->types, types, sizeof(types));
	memset(c->nulls, 'n', 4);
	c->nulls[4] = '\0';
	for (int i = 0; i < PG_NARGS(); i++)
	{
		c->values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		c->nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	c->source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	numbers = PG_GETARG_ARRAYTYPE_P(1);
	n = check_array(numbers, -1, "partitions");
	for (int i = 0; i < n; i++)
	{
		int			p = ((int32 *) ARR_DATA_PTR(numbers))[i];

		if (p < 0 || p > KFK_MAX_PARTITION || bms_is_member(p, seen))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("partition %d is named twice or is not from 0 to %d", p, KFK_MAX_PARTITION)));
		seen = bms_add_member(seen, p);
	}
	if (c->nulls[2] == ' ')
	{
		ArrayType  *offsets = PG_GETARG_ARRAYTYPE_P(2);

		check_array(offsets, n, "next_offsets");
		for (int i = 0; i < n; i++)
			if (((int64 *) ARR_DATA_PTR(offsets))[i] < 0)
				ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("offset must not be negative")));
	}
}

/* Lock the source, and see that it can be shared.  Within SPI and as the extension's owner. */
static void
begin_change(change *c, Oid caller)
{
	bool		null;

	kfk_lock_source(c->source, caller);
	kfk_run("SELECT options ? 'partitions', options ? 'control_topic' FROM millrace.sources WHERE name = $1",
			1, c->types, c->values, c->nulls, SPI_OK_SELECT);
	if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source \"%s\" reads all partitions of its topic", c->source),
				 errhint("Servers that share a topic give create_source option partitions.")));
	c->controlled = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &null));
}

/* ERROR unless the given partitions all are, or all are not, among the source's; what: "does not read". */
static void
check_listed(const change *c, bool listed, const char *what)
{
	if (kfk_run("SELECT p FROM pg_catalog.unnest($2) p, millrace.sources WHERE name = $1 "
				"AND (options -> 'partitions' @> pg_catalog.to_jsonb(p)) <> $5 LIMIT 1", 5,
				(Oid[]) {TEXTOID, INT4ARRAYOID, INT8ARRAYOID, BOOLOID, BOOLOID},
				(Datum[]) {c->values[0], c->values[1], c->values[2], c->values[3], BoolGetDatum(listed)}, NULL, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source \"%s\" %s partition %s", c->source, what, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1))));
}

/* The partitions join option partitions; workers start anew; a source that halted runs again. */
static void
add_to_option(const change *c)
{
	kfk_run("UPDATE millrace.sources SET options = pg_catalog.jsonb_set(options, '{partitions}', "
			"(SELECT pg_catalog.jsonb_agg(DISTINCT p ORDER BY p) FROM (SELECT pg_catalog.unnest($2) UNION ALL "
			"SELECT pg_catalog.jsonb_array_elements_text(options -> 'partitions')::pg_catalog.int4) AS u(p))), generation = generation + 1, "
			"reason = CASE WHEN state = 'halted' THEN NULL ELSE reason END, sqlstate = NULL, "
			"state = CASE WHEN state = 'halted' THEN 'running' ELSE state END WHERE name = $1",
			4, (Oid *) c->types, (Datum *) c->values, c->nulls, SPI_OK_UPDATE);
}

/* What the workers shall bring about. */
static void
ask_for(const change *c, bool take_over)
{
	kfk_run("INSERT INTO millrace.source_shares AS s (source, partition, take_over, from_offset, accept_duplicates) "
			"SELECT $1, u.p, $5, u.o, coalesce($4, false) FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u(p, o) "
			"ON CONFLICT (source, partition) DO UPDATE SET state = 'taking', take_over = excluded.take_over, from_offset = excluded.from_offset, "
			"accept_duplicates = excluded.accept_duplicates, claim_offset = NULL, reason = NULL, since = pg_catalog.now()", 5,
			(Oid[]) {TEXTOID, INT4ARRAYOID, INT8ARRAYOID, BOOLOID, BOOLOID},
			(Datum[]) {c->values[0], c->values[1], c->values[2], c->values[3], BoolGetDatum(take_over)},
			psprintf("%s ", c->nulls), SPI_OK_INSERT);
}

/* millrace.take_partitions(source text, partitions int[], next_offsets bigint[] = NULL) -> void */
Datum
millrace_take_partitions(PG_FUNCTION_ARGS)
{
	change		c;
	Oid			caller = GetUserId();
	mr_owner_save save;

	read_arguments(fcinfo, &c);
	mr_spi_begin(&save);
	begin_change(&c, caller);
	if (c.controlled)
	{
		if (c.nulls[2] == ' ')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the control topic of source \"%s\" says where partitions begin", c.source),
					 errhint("take_over() takes next_offsets, for partitions whose owner is gone.")));
		if (kfk_run("SELECT FROM millrace.source_shares WHERE source = $1 AND partition = ANY ($2) AND state IN ('owned', 'releasing')",
					4, c.types, c.values, c.nulls, SPI_OK_SELECT) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("source \"%s\" holds some of these partitions, or is about to release them", c.source),
					 errhint("See millrace.source_shares.")));
		ask_for(&c, false);
	}
	else
	{
		check_listed(&c, false, "already reads");
		if (c.nulls[2] == ' ')
			kfk_run("INSERT INTO millrace.source_offsets (source, partition, next_offset) "
					"SELECT $1, u.p, u.o FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u(p, o) "
					"ON CONFLICT (source, partition) DO UPDATE SET next_offset = excluded.next_offset, epoch = source_offsets.epoch + 1, "
					"last_offset = NULL, last_time = NULL, last_crc = NULL", 4, c.types, c.values, c.nulls, SPI_OK_INSERT);
	}
	add_to_option(&c);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}

/* millrace.take_over(source text, partitions int[], next_offsets bigint[] = NULL, accept_duplicates bool = false) -> void */
Datum
millrace_take_over(PG_FUNCTION_ARGS)
{
	change		c;
	Oid			caller = GetUserId();
	mr_owner_save save;

	read_arguments(fcinfo, &c);
	if (c.nulls[2] != ' ' && !(c.nulls[3] == ' ' && DatumGetBool(c.values[3])))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("take_over needs next_offsets: where the dead server stopped"),
				 errdetail("Its standby, or a restarted copy of its disk, tells them: SELECT * FROM millrace.partition_offsets(%s).", quote_literal_cstr(c.source)),
				 errhint("accept_duplicates => true begins at its last word in the control topic; what it committed after that is then read twice.")));
	mr_spi_begin(&save);
	begin_change(&c, caller);
	if (!c.controlled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source \"%s\" has no control topic", c.source),
				 errhint("Without one take_partitions() takes next_offsets, and nothing keeps the other server from going on.")));
	if (kfk_run("SELECT FROM millrace.source_shares WHERE source = $1 AND partition = ANY ($2) AND state = 'owned'",
				4, c.types, c.values, c.nulls, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source \"%s\" holds some of these partitions itself", c.source)));
	ask_for(&c, true);
	add_to_option(&c);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}

/* millrace.release_partitions(source text, partitions int[]) -> setof (partition int, next_offset bigint) */
Datum
millrace_release_partitions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	change		c;
	Oid			caller = GetUserId();
	mr_owner_save save;

	read_arguments(fcinfo, &c);
	InitMaterializedSRF(fcinfo, 0);
	mr_spi_begin(&save);
	begin_change(&c, caller);
	check_listed(&c, true, "does not read");

	/* Waits for the batch in progress; nothing of these partitions commits here after it. */
	kfk_lock_offsets(c.source);
	kfk_run("UPDATE millrace.source_offsets SET epoch = epoch + 1, owner_pid = NULL, high_watermark = NULL WHERE source = $1 AND partition = ANY ($2)",
			4, c.types, c.values, c.nulls, SPI_OK_UPDATE);
	/* What was never claimed nobody has to be told of. */
	kfk_run("DELETE FROM millrace.source_shares WHERE source = $1 AND partition = ANY ($2) AND (state = 'lost' OR claim_epoch = 0)",
			4, c.types, c.values, c.nulls, SPI_OK_DELETE);
	kfk_run("UPDATE millrace.source_shares SET state = 'releasing', reason = NULL, since = pg_catalog.now() WHERE source = $1 AND partition = ANY ($2)",
			4, c.types, c.values, c.nulls, SPI_OK_UPDATE);
	kfk_run("UPDATE millrace.sources SET options = pg_catalog.jsonb_set(options, '{partitions}', "
			"(SELECT coalesce(pg_catalog.jsonb_agg(p ORDER BY p), '[]') FROM (SELECT pg_catalog.jsonb_array_elements_text(options -> 'partitions')::pg_catalog.int4) AS u(p) "
			"WHERE p <> ALL ($2))), generation = generation + 1 WHERE name = $1",
			4, c.types, c.values, c.nulls, SPI_OK_UPDATE);
	kfk_run("SELECT u.p, o.next_offset FROM pg_catalog.unnest($2) AS u(p) "
			"LEFT JOIN millrace.source_offsets o ON o.source = $1 AND o.partition = u.p ORDER BY 1",
			4, c.types, c.values, c.nulls, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		values[2];
		bool		nulls[2];

		for (int k = 0; k < 2; k++)
			values[k] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, k + 1, &nulls[k]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	mr_spi_end(&save);
	return (Datum) 0;
}
