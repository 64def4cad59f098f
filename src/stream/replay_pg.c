/*
 * replay_pg.c
 *	  replay and cancel_replay: a range of a source's topic, read again into
 *	  another table.
 *
 * A replay is a source of its own: a row of millrace.sources whose replay_of
 * names the source it was made from, with that one's options, and rows of
 * source_offsets that say where each partition ends (worker/replay_pg.c).  So
 * everything that holds for sources holds for it: its offsets move in the
 * transaction of its rows, it can be paused and resumed, its dead letters are
 * under its name.  The source it was made from is not touched.
 *
 * Locks: the row of that source, as its other functions do.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/server_pg.h"
#include "core/spi_pg.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "stream/admin.h"
#include "stream/options.h"
#include "stream/stream.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(millrace_replay);
PG_FUNCTION_INFO_V1(millrace_cancel_replay);

/* Where a replay begins or ends: as three arguments of a statement, of which one is not null, or none. */
typedef struct bound
{
	Datum		values[3];		/* bigint: in all partitions; jsonb: in those it names; timestamptz */
	char		nulls[3];
} bound;

/* {"0": 17, "3": 5} */
static void
check_offsets(Jsonb *offsets, const char *argument)
{
	JsonbIterator *it = JsonbIteratorInit(&offsets->root);
	JsonbValue	v;
	JsonbIteratorToken token;
	bool		good = true;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			good = good && v.val.string.len > 0 && v.val.string.len < 10 &&
				(int) strspn(pnstrdup(v.val.string.val, v.val.string.len), "0123456789") == v.val.string.len;
		else if (token == WJB_VALUE)
		{
			char	   *text = v.type == jbvNumeric ? DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric))) : "";

			good = good && *text && strlen(text) < 19 && strspn(text, "0123456789") == strlen(text);
		}
	}
	if (!good || JB_ROOT_COUNT(offsets) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" of replay must have an offset for each partition it names", argument),
				 errhint("For example '{\"0\": 1700, \"1\": 1650}'.")));
}

/* Argument n, of whatever type: an offset, an object of them, or a time. */
static bound
read_bound(FunctionCallInfo fcinfo, int n, const char *argument)
{
	bound		b = {.nulls = {'n', 'n', 'n'}};
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, n);
	char	   *text;
	int			kind;

	if (PG_ARGISNULL(n))
		return b;
	if (type == UNKNOWNOID)
		text = PG_GETARG_CSTRING(n);
	else
	{
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(type, &output, &varlena);
		text = OidOutputFunctionCall(output, PG_GETARG_DATUM(n));
	}
	if (*text == '{')
	{
		kind = 1;
		b.values[kind] = DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
		check_offsets(DatumGetJsonbP(b.values[kind]), argument);
	}
	else if (*text && strspn(text, "0123456789") == strlen(text))
	{
		kind = 0;
		b.values[kind] = DirectFunctionCall1(int8in, CStringGetDatum(text));
	}
	else if (*text == '-' && strspn(text + 1, "0123456789") == strlen(text + 1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("offset must not be negative")));
	else
	{
		kind = 2;
		b.values[kind] = DirectFunctionCall3(timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	}
	b.nulls[kind] = ' ';
	return b;
}

/* A member of the options taken out of them, as text; NULL if it is not there. */
static char *
take_option(Jsonb **options, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *v = getKeyJsonValueFromContainer(&(*options)->root, name, (int) strlen(name), &buffer);
	char	   *text;

	if (v == NULL)
		return NULL;
	text = v->type == jbvString ? pnstrdup(v->val.string.val, v->val.string.len) : pstrdup("");
	*options = DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(*options), CStringGetTextDatum(name)));
	return text;
}

/* Options that say what is read of the topic, by how many, and where else dead letters go: of the source alone. */
static const char *const not_inherited[] = {"start", "workers", "workers_min", "workers_max",
"partitions", "control_topic", "lease_ms", "dead_letter_topic", "dead_letter_server", "group"};

/* What the replay is told: options of the source, and over them those given here; message_type belongs to the transform it came with. */
static Jsonb *
merge_options(Jsonb *source, Jsonb *given)
{
	JsonbValue	buffer;

	if (getKeyJsonValueFromContainer(&given->root, "transform", 9, &buffer) != NULL)
		(void) take_option(&source, "message_type");
	for (int i = 0; i < (int) lengthof(not_inherited); i++)
		(void) take_option(&source, not_inherited[i]);
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(source), JsonbPGetDatum(given)));
}

static void
check_given(Jsonb *given)
{
	static const char *const refused[] = {"owner", "start", "partitions", "control_topic", "lease_ms"};
	JsonbValue	buffer;

	if (!JB_ROOT_IS_OBJECT(given))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options of a replay must be a JSON object")));
	for (int i = 0; i < (int) lengthof(refused); i++)
		if (getKeyJsonValueFromContainer(&given->root, refused[i], (int) strlen(refused[i]), &buffer) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" is not allowed for a replay", refused[i]),
					 i == 0 ? errdetail("A replay belongs to the owner of its source.") :
					 errdetail("What a replay reads is said by its arguments \"from\" and \"to\".")));
}

/*
 * The table a replay goes into, made like the source's target by the source's
 * owner if it is not there: with all that is inside the table (keys, checks,
 * defaults), so that what is no row there is none here, and without what reaches
 * out of it (triggers, foreign keys, policies, rights).
 */
static Oid
table_for(const char *into, Oid target, Oid owner)
{
	RangeVar   *range = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(into)));
	Oid			table = RangeVarGetRelid(range, NoLock, true);
	char	   *name;
	Oid			user;
	int			context;

	if (OidIsValid(table))
		return table;
	name = quote_qualified_identifier(get_namespace_name(RangeVarGetCreationNamespace(range)), range->relname);
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE);
	kfk_run(psprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING STATISTICS)", name,
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(target)), get_rel_name(target))),
			0, NULL, NULL, NULL, SPI_OK_UTILITY);
	SetUserIdAndSecContext(user, context);
	CommandCounterIncrement();
	return RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name))), NoLock, false);
}

/* The row of the source that is replayed, locked. */
typedef struct original
{
	Oid			target;
	Oid			owner;
	Jsonb	   *options;
	char	   *server;
} original;

static original
lock_original(const char *name, Oid caller)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	original	o;
	HeapTuple	row;
	bool		null;
	mr_owner_save save;

	mr_owner_begin(&save);
	kfk_lock_source(name, caller);
	kfk_run("SELECT server, target, owner, options, replay_of IS NOT NULL, pg_catalog.to_regclass(target)::oid FROM millrace.sources WHERE name = $1",
			1, types, values, NULL, SPI_OK_SELECT);
	row = SPI_tuptable->vals[0];
	if (DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, 5, &null)))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("source \"%s\" is a replay itself", name),
				 errhint("Replay the source it was made from.")));
	o.target = DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 6, &null));
	if (null)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table %s of source \"%s\" does not exist", SPI_getvalue(row, SPI_tuptable->tupdesc, 2), name)));
	o.server = SPI_getvalue(row, SPI_tuptable->tupdesc, 1);
	o.owner = get_role_oid(SPI_getvalue(row, SPI_tuptable->tupdesc, 3), false);
	o.options = DatumGetJsonbPCopy(SPI_getbinval(row, SPI_tuptable->tupdesc, 4, &null));
	mr_owner_end(&save);
	return o;
}

/*
 * The replay's own row, under the name asked for or the first that is free.
 * Returns the name.
 */
static char *
insert_replay(const char *source, const char *asked, const char *table, Jsonb *options)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID};

	for (int i = 1;; i++)
	{
		char		numbered[NAMEDATALEN];
		const char *name = asked ? asked : numbered;
		Datum		values[5];

		/* A name may have 63 bytes; where that cuts a character, the database's encoding says how. */
		snprintf(numbered, sizeof(numbered), "%.*s_replay_%d", pg_mbcliplen(source, (int) strlen(source), NAMEDATALEN - 1 - 18), source, i);
		values[0] = CStringGetTextDatum(source);
		values[1] = CStringGetTextDatum(name);
		values[2] = CStringGetTextDatum(table);
		values[3] = JsonbPGetDatum(options);
		values[4] = CStringGetTextDatum(mr_source_binding());
		if (kfk_run("INSERT INTO millrace.sources (name, replay_of, server, topic, target, owner, options, bound_to, cluster_id, partitions) "
					"SELECT $2, name, server, topic, $3, owner, $4, $5, cluster_id, partitions FROM millrace.sources WHERE name = $1 ON CONFLICT (name) DO NOTHING",
					lengthof(types), types, values, NULL, SPI_OK_INSERT) > 0)
			return pstrdup(name);
		if (asked)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("source \"%s\" already exists", asked)));
	}
}

/*
 * Its partitions: all that the source reads, or those that a jsonb names.  A
 * place that is a time, or the beginning ('-infinity'), becomes an offset when
 * the partition is claimed.
 */
static void
insert_ranges(const char *source, const char *replay, const bound *from, const bound *to)
{
	Oid			types[] = {TEXTOID, TEXTOID, INT8OID, JSONBOID, TIMESTAMPTZOID, INT8OID, JSONBOID, TIMESTAMPTZOID};
	Datum		values[8] = {CStringGetTextDatum(source), CStringGetTextDatum(replay)};
	char		nulls[] = "        ";

	memcpy(values + 2, from->values, sizeof(from->values));
	memcpy(values + 5, to->values, sizeof(to->values));
	memcpy(nulls + 2, from->nulls, sizeof(from->nulls));
	memcpy(nulls + 5, to->nulls, sizeof(to->nulls));
	if (kfk_run("SELECT p FROM (SELECT pg_catalog.jsonb_object_keys($4) UNION SELECT pg_catalog.jsonb_object_keys($7)) k (p) "
				"WHERE NOT EXISTS (SELECT FROM millrace.source_offsets o WHERE o.source = $1 AND o.partition = p::int4) ORDER BY p::int4",
				lengthof(types), types, values, nulls, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source \"%s\" has no partition %s", source, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
				 errhint("SELECT partition FROM millrace.source_offsets WHERE source = %s lists them.", quote_literal_cstr(source))));
	if (kfk_run("INSERT INTO millrace.source_offsets (source, partition, next_offset, from_offset, rewind_to, to_offset, to_time) "
				"SELECT $2, r.partition, coalesce(r.f, 0), r.f, CASE WHEN r.f IS NULL THEN coalesce($5, '-infinity') END, coalesce(r.t, r.stands), $8 "
				"FROM (SELECT o.partition, coalesce($3, ($4 ->> o.partition::text)::int8) AS f, "
				"coalesce($6, ($7 ->> o.partition::text)::int8) AS t, CASE WHEN $8 IS NULL THEN o.next_offset END AS stands "
				"FROM millrace.source_offsets o WHERE o.source = $1 "
				"AND (($4 IS NULL AND $7 IS NULL) OR coalesce($4 ? o.partition::text, false) OR coalesce($7 ? o.partition::text, false))) r",
				lengthof(types), types, values, nulls, SPI_OK_INSERT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source \"%s\" has read nothing yet that could be replayed", source),
				 errhint("Its partitions appear in millrace.source_offsets once a worker has claimed them.")));
	if (kfk_run("SELECT partition FROM millrace.source_offsets WHERE source = $2 AND "
				"(from_offset > coalesce($6, ($7 ->> partition::text)::int8) OR $5 > $8) ORDER BY 1",
				lengthof(types), types, values, nulls, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the replay of partition %s would end before it begins", SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1))));
}

/* millrace.replay(source text, "from" "any" = NULL, "to" "any" = NULL, "into" text = NULL, options jsonb = '{}') -> text, its name */
Datum
millrace_replay(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	char	   *source;
	char	   *into;
	char	   *name;
	Jsonb	   *given;
	bound		from;
	bound		to;
	original	o;
	Oid			table;
	mr_owner_save save;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("replay needs a source and a table to read into"),
				 errhint("For example millrace.replay('s', now() - interval '1 day', now(), 'shadow').")));
	source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	from = read_bound(fcinfo, 1, "from");
	to = read_bound(fcinfo, 2, "to");
	into = text_to_cstring(PG_GETARG_TEXT_PP(3));
	given = PG_ARGISNULL(4) ? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"))) : PG_GETARG_JSONB_P_COPY(4);
	check_given(given);
	name = take_option(&given, "name");
	if (name != NULL && (name[0] == '\0' || strlen(name) >= NAMEDATALEN))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name \"%s\" for a replay", name),
				 errdetail("It must have 1 to %d bytes.", NAMEDATALEN - 1)));

	SPI_connect();
	o = lock_original(source, caller);
	kfk_check_owner(o.owner, mr_find_server(o.server, "millrace_kafka"), "a replay");
	table = table_for(into, o.target, o.owner);
	if (table == o.target)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is the table that source \"%s\" itself is read into", get_rel_name(table), source),
				 errhint("millrace.rewind_source() reads into it again.")));
	kfk_check_target(table);
	kfk_check_may_insert(o.owner, table);
	given = merge_options(o.options, given);
	(void) kfk_check_options(&given, table);
	kfk_check_select(given, table, o.owner);

	mr_owner_begin(&save);
	name = insert_replay(source, name, quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), get_rel_name(table)), given);
	insert_ranges(source, name, &from, &to);
	mr_owner_end(&save);
	source = MemoryContextStrdup(fcinfo->flinfo->fn_mcxt, name);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(source));
}

/* millrace.cancel_replay(replay text) -> void */
Datum
millrace_cancel_replay(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	Oid			caller = GetUserId();
	mr_owner_save save;

	mr_spi_begin(&save);
	kfk_lock_source(name, caller);
	if (kfk_run("SELECT FROM millrace.sources WHERE name = $1 AND replay_of IS NULL", 1, types, values, NULL, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("source \"%s\" is not a replay", name),
				 errhint("SELECT replay FROM millrace.replays lists them.")));
	kfk_run("UPDATE millrace.sources SET state = 'cancelled', reason = NULL, sqlstate = NULL, state_since = pg_catalog.now(), generation = generation + 1 "
			"WHERE name = $1 AND state NOT IN ('finished', 'cancelled')", 1, types, values, NULL, SPI_OK_UPDATE);
	kfk_fence_source(name);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}
