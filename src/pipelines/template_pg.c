/*
 * template_pg.c
 *	  create_pipeline, drop_pipeline, upgrade_pipeline: templates run as SQL.
 *
 * A template is plain SQL in $sharedir/extension/millrace_pipelines/<kind>.sql.
 * It runs with the caller's rights and search_path pg_catalog, pg_temp; names
 * are substituted quoted.  Only millrace.pipelines, where nobody may write, is
 * written as the extension's owner.  Memory: everything lives in SPI's context.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "core/owner_pg.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pipelines/pipelines.h"
#include "storage/fd.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#define UPGRADE_MARK "\n-- upgrade\n"

PG_FUNCTION_INFO_V1(millrace_create_pipeline);
PG_FUNCTION_INFO_V1(millrace_drop_pipeline);
PG_FUNCTION_INFO_V1(millrace_upgrade_pipeline);

void
pipelines_init(void)
{
}

/* Run one statement that must not fail silently; a failure is SPI's ERROR. */
static uint64
run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, int expected)
{
	int			ret = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);

	if (ret != expected)
		elog(ERROR, "unexpected SPI result %d from: %s", ret, sql);
	return SPI_processed;
}

/* The same as the extension's owner, for the tables nobody else may write. */
static uint64
run_as_extension_owner(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, int expected)
{
	mr_owner_save save;
	uint64		n;

	mr_owner_begin(&save);
	n = run(sql, nargs, types, values, nulls, expected);
	mr_owner_end(&save);
	return n;
}

char *
pip_function_schema(void)
{
	bool		isnull;

	if (run("SELECT extnamespace FROM pg_catalog.pg_extension WHERE extname = 'millrace'", 0, NULL, NULL, NULL, SPI_OK_SELECT) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension \"millrace\" is not installed in this database")));
	return get_namespace_name(DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)));
}

/* A file of templates, NULL if there is none. */
static char *
read_file(const char *name)
{
	char		share[MAXPGPATH];
	char	   *path;
	FILE	   *file;
	struct stat st;
	char	   *text;

	get_share_path(my_exec_path, share);
	path = psprintf("%s/extension/millrace_pipelines/%s.sql", share, name);
	file = AllocateFile(path, "r");
	if (file == NULL && errno == ENOENT)
		return NULL;
	if (file == NULL)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	if (fstat(fileno(file), &st) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not stat file \"%s\": %m", path)));
	text = palloc(st.st_size + 1);
	if (fread(text, 1, st.st_size, file) != (size_t) st.st_size)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	text[st.st_size] = '\0';
	FreeFile(file);
	return text;
}

/* text, and behind it a file of templates, if there is one. */
static char *
add_part(char *text, const char *name)
{
	char	   *part = read_file(name);

	return part ? psprintf("%s\n%s", text, part) : text;
}

/*
 * The template's text: <kind>.sql and, where they are, its further parts, then what every kind has, which its routes name.
 * kind is checked to be a plain word before it names a file.
 */
static char *
read_template(const char *kind)
{
	static const char *const parts[] = {"objects", "replay", "history", "score", "work", "share", "ask", "views", "traffic",
		"files", "export", "audit", "checks", "leaks", "detect", "latent", "suspects", "versions", "look"};
	char	   *text;

	for (const char *p = kind; *p; p++)
		if (!(*p >= 'a' && *p <= 'z'))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid pipeline kind \"%s\"", kind),
					 errhint("The kind is a word of lower-case letters, such as images.")));
	text = read_file(kind);
	if (text == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pipeline kind \"%s\" does not exist", kind),
				 errhint("This version of millrace has the kinds images, tabular, answers, events and datasets.")));
	for (int i = 0; i < (int) lengthof(parts); i++)
		text = add_part(text, psprintf("%s_%s", kind, parts[i]));
	text = add_part(text, "every_kind");
	return add_part(text, psprintf("%s_routes", kind));
}

/* Put names in place of @schema@, @schema_literal@ and @extschema@, and the options (NULL in an upgrade) as a literal. */
static char *
substitute(const char *text, const char *schema, Jsonb *options)
{
	struct
	{
		const char *mark;
		const char *value;
	}			marks[] =
	{
		{"@schema@", quote_identifier(schema)},
		{"@schema_literal@", quote_literal_cstr(schema)},
		{"@extschema@", quote_identifier(pip_function_schema())},
		{"@options@", options ? quote_literal_cstr(JsonbToCString(NULL, &options->root, VARSIZE(options))) : "NULL"},
	};
	StringInfoData out;

	initStringInfo(&out);
	while (*text)
	{
		bool		found = false;

		for (int i = 0; *text == '@' && !found && i < (int) lengthof(marks); i++)
		{
			size_t		n = strlen(marks[i].mark);

			if (strncmp(text, marks[i].mark, n) == 0)
			{
				appendStringInfoString(&out, marks[i].value);
				text += n;
				found = true;
			}
		}
		if (!found)
			appendStringInfoChar(&out, *text++);
	}
	return out.data;
}

/* Run template text as the caller, statement by statement, names resolved in pg_catalog only. */
static void
run_template(const char *text, const char *schema, Jsonb *options)
{
	int			nest = NewGUCNestLevel();
	char	   *sql = substitute(text, schema, options);
	ListCell   *lc;

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	foreach(lc, pg_parse_query(sql))
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);
		const char *start = sql + raw->stmt_location;
		char	   *statement = raw->stmt_len ? pnstrdup(start, raw->stmt_len) : pstrdup(start);
		int			ret = SPI_execute(statement, false, 0);

		if (ret < 0)
			elog(ERROR, "unexpected SPI result %d from: %s", ret, statement);
	}
	AtEOXact_GUC(true, nest);
}

/* The tables that a Kafka source may feed, the option that names its topic, and options of the source that go without saying. */
static const struct
{
	const char *kind;
	const char *option;
	const char *table;
	const char *defaults;
}			entries[] =
{
	{"images", "images_topic", "images", "{\"columns\": {\"minio_path\": \"object_path\"}}"},
	{"images", "features_topic", "descriptors", "{}"},
	{"tabular", "topic", "raw", "{}"},
};

/*
 * What options of kind images stand for: publish_topic lets descriptors leave through the server's outbox; object_server
 * names where objects are, and with images_topic uploads are announced there.
 */
static void
connect_images(const char *schema, Jsonb *options)
{
	static const struct
	{
		const char *option;
		const char *also;		/* without which it does nothing */
		const char *call;
	}			calls[] =
	{
		{"publish_topic", "publish_topic", "publish_descriptors($1 ->> 'server', $1 ->> 'publish_topic')"},
		{"object_server", "object_server", "fetch_from($1 ->> 'object_server', COALESCE($1 ->> 'bucket', 'raw-images'))"},
		{"object_server", "images_topic", "announce_uploads($1 ->> 'server', $1 ->> 'images_topic')"},
	};
	Oid			types[1] = {JSONBOID};
	Datum		values[1] = {JsonbPGetDatum(options)};

	for (int i = 0; i < (int) lengthof(calls); i++)
	{
		JsonbValue	v;

		if (getKeyJsonValueFromContainer(&options->root, calls[i].option, strlen(calls[i].option), &v) != NULL &&
			getKeyJsonValueFromContainer(&options->root, calls[i].also, strlen(calls[i].also), &v) != NULL)
			run(psprintf("SELECT %s.%s", quote_identifier(schema), calls[i].call), 1, types, values, NULL, SPI_OK_SELECT);
	}
}

/* The Kafka entries asked for by option: {"server": "k", "images_topic": …, "features_topic": …}. */
static void
create_sources(const char *kind, const char *schema, Jsonb *options)
{
	Oid			types[2] = {JSONBOID, TEXTOID};
	Datum		values[2] = {JsonbPGetDatum(options), CStringGetTextDatum(schema)};

	for (int i = 0; i < (int) lengthof(entries); i++)
	{
		JsonbValue	v;

		if (strcmp(entries[i].kind, kind) != 0 ||
			getKeyJsonValueFromContainer(&options->root, entries[i].option, strlen(entries[i].option), &v) == NULL)
			continue;
		run(psprintf("SELECT millrace.create_source(pg_catalog.format('%%s_%s', $2), $1 ->> 'server', $1 ->> '%s', "
					 "pg_catalog.format('%%I.%s', $2)::regclass, '%s'::jsonb || COALESCE($1 -> 'source', '{}'))",
					 entries[i].table, entries[i].option, entries[i].table, entries[i].defaults),
			2, types, values, NULL, SPI_OK_SELECT);
	}
}

/*
 * Refuse what create_pipeline does not know, so that a typing error is not
 * silence.  Templates that take the options as a whole check them themselves.
 */
static void
check_options(const char *kind, Jsonb *options)
{
	static const char *const known[] = {"server", "images_topic", "features_topic", "publish_topic", "source", "descriptor_model",
	"object_server", "bucket", "http_prefix"};
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken tok;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options of a pipeline must be a JSON object")));
	if (strcmp(kind, "images") != 0)
		return;
	it = JsonbIteratorInit(&options->root);
	tok = JsonbIteratorNext(&it, &v, true);
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		bool		found = false;

		if (tok != WJB_KEY)
			continue;
		for (int i = 0; i < (int) lengthof(known); i++)
			if (v.val.string.len == (int) strlen(known[i]) && memcmp(v.val.string.val, known[i], v.val.string.len) == 0)
				found = true;
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown option \"%.*s\" for a pipeline of kind \"%s\"", v.val.string.len, v.val.string.val, kind),
					 errhint("Options are server, images_topic, features_topic, publish_topic, source, descriptor_model, object_server, bucket and http_prefix.")));
	}
}

/* millrace.create_pipeline(kind text, name text = kind, options jsonb = '{}') -> void */
Datum
millrace_create_pipeline(PG_FUNCTION_ARGS)
{
	Oid			types[4] = {TEXTOID, TEXTOID, TEXTOID, JSONBOID};
	Datum		values[4];
	char	   *kind;
	char	   *name;
	char	   *template;
	Jsonb	   *options;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("pipeline kind must not be null")));
	kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	name = PG_ARGISNULL(1) ? kind : text_to_cstring(PG_GETARG_TEXT_PP(1));
	options = PG_ARGISNULL(2) ? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"))) : PG_GETARG_JSONB_P(2);
	/* Templates have the name within literals, bodies of functions and formats, too. */
	if (strlen(name) >= NAMEDATALEN || name[0] == '\0' || strpbrk(name, "'$%\\\n") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid pipeline name \"%s\"", name),
				 errdetail("The name becomes a schema and must have 1 to %d bytes, none of which is ', $, %%, \\ or a line's end.", NAMEDATALEN - 1)));
	check_options(kind, options);

	SPI_connect();
	template = read_template(kind);
	if (OidIsValid(get_namespace_oid(name, true)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_SCHEMA),
				 errmsg("schema \"%s\" already exists", name),
				 errhint("Give the pipeline another name: millrace.create_pipeline('%s', 'other').", kind)));
	run_template(template, name, options);
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(kind);
	values[2] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	values[3] = JsonbPGetDatum(options);
	run_as_extension_owner("INSERT INTO millrace.pipelines (name, kind, owner, template_version, options) "
						   "VALUES ($1, $2, $3, '" MILLRACE_VERSION "', $4)", 4, types, values, NULL, SPI_OK_INSERT);
	create_sources(kind, name, options);
	if (strcmp(kind, "images") == 0)
		connect_images(name, options);
	SPI_finish();
	PG_RETURN_VOID();
}

/* Kind of a pipeline that exists and that the caller owns. */
static char *
owned_pipeline(const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};
	Oid			namespace = get_namespace_oid(name, true);

	run_as_extension_owner("SELECT kind FROM millrace.pipelines WHERE name = $1", 1, types, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pipeline \"%s\" does not exist", name),
				 errhint("SELECT name FROM millrace.pipelines lists them.")));
	if (OidIsValid(namespace) && !pip_is_owner_of_schema(namespace, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_SCHEMA, name);
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/* millrace.drop_pipeline(name text) -> void */
Datum
millrace_drop_pipeline(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *kind;
	Oid			types[1] = {TEXTOID};
	Datum		values[1];

	SPI_connect();
	kind = owned_pipeline(name);
	values[0] = CStringGetTextDatum(name);
	/* The shadows of a pipeline of photos: their predictions are children of a table of its. */
	run("SELECT millrace.drop_pipeline(n.nspname) FROM pg_catalog.pg_inherits i "
		"JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
		"JOIN millrace.pipelines p ON p.name = n.nspname AND p.kind = 'images' "
		"WHERE c.relname = 'predictions' AND i.inhparent = pg_catalog.to_regclass(pg_catalog.format('%I.replayed_predictions', $1))",
		1, types, values, NULL, SPI_OK_SELECT);
	run("SELECT millrace.drop_source(s.name) FROM millrace.sources s "
		"WHERE pg_catalog.starts_with(s.target, pg_catalog.format('%I.', $1))",
		1, types, values, NULL, SPI_OK_SELECT);
	run("SELECT millrace.cancel_requests(q.server, pg_catalog.array_agg(r.id)) FROM millrace.http_requests r JOIN millrace.http_queues q ON q.id = r.queue "
		"WHERE pg_catalog.starts_with(r.deliver, pg_catalog.format('%I.', $1)) GROUP BY q.server",
		1, types, values, NULL, SPI_OK_SELECT);
	if (strcmp(kind, "tabular") == 0)
	{
		run("SELECT millrace.drop_schedule(s.name) FROM millrace.schedules s WHERE s.kind = 'sql' AND s.name = $1",
			1, types, values, NULL, SPI_OK_SELECT);
		run("SELECT millrace.drop_monitor(m.name) FROM millrace.monitors m WHERE m.name = $1",
			1, types, values, NULL, SPI_OK_SELECT);
	}
	/* What a template has outside of its schema (tasks, kinds of tasks, a cache) its function before_drop() takes away. */
	if (run("SELECT FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident($1)) AND proname = 'before_drop' AND pronargs = 0",
			1, types, values, NULL, SPI_OK_SELECT) > 0)
		run(psprintf("SELECT %s.before_drop()", quote_identifier(name)), 0, NULL, NULL, NULL, SPI_OK_SELECT);
	run_as_extension_owner("DELETE FROM millrace.routes WHERE pipeline = $1", 1, types, values, NULL, SPI_OK_DELETE);
	run_as_extension_owner("DELETE FROM millrace.pipelines WHERE name = $1", 1, types, values, NULL, SPI_OK_DELETE);
	if (OidIsValid(get_namespace_oid(name, true)))
		run(psprintf("DROP SCHEMA %s CASCADE", quote_identifier(name)), 0, NULL, NULL, NULL, SPI_OK_UTILITY);
	SPI_finish();
	PG_RETURN_VOID();
}

/* millrace.upgrade_pipeline(name text) -> void: run the re-runnable part of today's template. */
Datum
millrace_upgrade_pipeline(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	char	   *mark;

	SPI_connect();
	mark = strstr(read_template(owned_pipeline(name)), UPGRADE_MARK);
	if (mark == NULL)
		elog(ERROR, "the template of pipeline \"%s\" has no upgrade part", name);
	run_template(mark, name, NULL);
	values[0] = CStringGetTextDatum(name);
	run_as_extension_owner("UPDATE millrace.pipelines SET template_version = '" MILLRACE_VERSION "' WHERE name = $1",
						   1, types, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	PG_RETURN_VOID();
}
