/*
 * settings_pg.c
 *	  The sources row of a worker, what its options mean, and the Kafka client
 *	  they lead to.
 *
 * Everything is read inside a transaction of the caller and copied into the
 * source's own memory context.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/address.h"
#include "core/spi_pg.h"
#include "stream/kafka_options.h"
#include "stream/stream.h"
#include "stream/worker/registry.h"
#include "stream/worker/scalar.h"

/* Member of a jsonb object as text (NULL if absent or null), in cxt. */
static char *
option_text(Jsonb *options, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *v = getKeyJsonValueFromContainer(&options->root, name, (int) strlen(name), &buffer);

	if (v == NULL || v->type == jbvNull)
		return NULL;
	switch (v->type)
	{
		case jbvString:
			return pnstrdup(v->val.string.val, v->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
		case jbvBool:
			return pstrdup(v->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

/* A whole number within bounds; create_source has checked them, a hand-edited row may differ. */
static int64
option_number(Jsonb *options, const char *name, int64 fallback, int64 low, int64 high)
{
	char	   *text = option_text(options, name);
	char	   *end;
	int64		value;

	if (text == NULL)
		return fallback;
	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < low || value > high)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source option \"%s\" must be a whole number from " INT64_FORMAT " to " INT64_FORMAT, name, low, high),
				 errdetail("It is \"%s\".", text)));
	return value;
}

static bool
option_is(Jsonb *options, const char *name, const char *word)
{
	char	   *text = option_text(options, name);

	return text != NULL && strcmp(text, word) == 0;
}

/* Strings of an array, or keys and values of an object, as they come. */
static List *
strings_of(Jsonb *options, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *found = getKeyJsonValueFromContainer(&options->root, name, (int) strlen(name), &buffer);
	List	   *list = NIL;

	if (found != NULL && found->type == jbvBinary)
	{
		JsonbIterator *it = JsonbIteratorInit(found->val.binary.data);
		JsonbValue	v;
		JsonbIteratorToken token;

		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
			if ((token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM) && v.type == jbvString)
				list = lappend(list, pnstrdup(v.val.string.val, v.val.string.len));
	}
	return list;
}

/* Numbers of an array, which create_source has put in order; *there: it is among the options. */
static Bitmapset *
numbers_of(Jsonb *options, const char *name, bool *there)
{
	JsonbValue	buffer;
	JsonbValue *found = getKeyJsonValueFromContainer(&options->root, name, (int) strlen(name), &buffer);
	Bitmapset  *set = NULL;

	*there = found != NULL && found->type == jbvBinary;
	if (*there)
	{
		JsonbIterator *it = JsonbIteratorInit(found->val.binary.data);
		JsonbValue	v;
		JsonbIteratorToken token;

		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
			if (token == WJB_ELEM && v.type == jbvNumeric)
				set = bms_add_member(set, DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(v.val.numeric))));
	}
	return set;
}

static const kfk_format *
find_format(const char *name)
{
	const kfk_format *format = kfk_find_format(name);

	if (format == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown message format \"%s\"", name)));
	return format;
}

/* The message format and what it may be told. */
static void
read_format(kfk_source *source, Jsonb *options)
{
	kfk_format_options *o = &source->format_options;
	char	   *format = option_text(options, "format");
	char	   *delimiter = option_text(options, "delimiter");
	char	   *quote = option_text(options, "quote");
	char	   *null = option_text(options, "null");

	source->format = find_format(format ? format : "json");
	o->array_rows = option_is(options, "array", "rows");
	o->header = option_is(options, "header", "true");
	o->delimiter = delimiter ? *delimiter : ',';
	o->quote = quote ? *quote : '"';
	o->null_text = null ? null : "";
	o->null_len = strlen(o->null_text);
	source->header = strings_of(options, "header");
}

/* A worker's share of the memory, and what of it a batch and a message may be. */
static void
read_budget(kfk_source *source, Jsonb *options)
{
	char	   *memory = option_text(options, "memory");
	int64		workers = option_number(options, "workers", 1, 1, KFK_MAX_WORKERS);
	int64		batch = option_number(options, "batch_bytes", KFK_BATCH_BYTES, 1, 1 << 30);
	int64		message = option_number(options, "max_message_bytes", KFK_MAX_MESSAGE_BYTES, 1, 256 << 20);
	int64		part;

	workers = Max(workers, option_number(options, "workers_min", 1, 1, KFK_MAX_WORKERS));
	workers = Max(workers, option_number(options, "workers_max", 1, 1, KFK_MAX_WORKERS));
	source->memory = memory ? DatumGetInt64(DirectFunctionCall1(pg_size_bytes, CStringGetTextDatum(memory))) / workers :
		Max(KFK_MEMORY, KFK_MEMORY_PARTS * Max(batch, message));
	part = source->memory / KFK_MEMORY_PARTS;
	source->batch_bytes = Min(batch, part);
	source->max_message_bytes = Min(message, part);
}

static void
read_options(kfk_source *source, Jsonb *options)
{
	char	   *start = option_text(options, "start");
	int64_t		micros;

	read_format(source, options);
	source->columns = strings_of(options, "columns");
	source->transform = option_text(options, "transform");
	source->message_type = option_text(options, "message_type");
	source->refuse_unknown = option_is(options, "unknown_keys", "refuse");
	source->tombstones = option_is(options, "tombstones", "delete") ? KFK_DELETE :
		option_is(options, "tombstones", "dead_letter") ? KFK_DEAD_LETTER : KFK_SKIP;
	source->on_conflict = option_is(options, "on_conflict", "update") ? KFK_UPDATE :
		option_is(options, "on_conflict", "nothing") ? KFK_NOTHING : KFK_REFUSE;
	source->key_format = option_text(options, "key_format") ? find_format(option_text(options, "key_format")) :
		source->tombstones == KFK_DELETE ? find_format("text") : NULL;
	source->batch_rows = (int) option_number(options, "batch_rows", KFK_BATCH_ROWS, 1, 100000);
	source->batch_ms = (int) option_number(options, "batch_ms", KFK_BATCH_MS, 0, 60000);
	source->batch_timeout_ms = (int) option_number(options, "batch_timeout_ms", KFK_BATCH_TIMEOUT_MS, 1000, 3600000);
	read_budget(source, options);
	source->max_dead_percent = (int) option_number(options, "max_dead_percent", KFK_MAX_DEAD_PERCENT, 0, 100);
	source->only = numbers_of(options, "partitions", &source->shared);
	source->control_topic = option_text(options, "control_topic");
	source->group = option_text(options, "group");
	source->lease_ms = (int) option_number(options, "lease_ms", KFK_LEASE_MS, 1000, 3600000);
	source->dead_window = (int) option_number(options, "dead_window", KFK_DEAD_WINDOW, 1, 1000000);
	source->max_dead_letters = option_number(options, "max_dead_letters", PG_INT64_MAX, 0, PG_INT64_MAX);
	source->max_dead_letter_bytes = option_number(options, "max_dead_letter_bytes", PG_INT64_MAX, 0, PG_INT64_MAX);
	source->dead_letter_value_bytes = option_number(options, "dead_letter_value_bytes", PG_INT64_MAX, 0, PG_INT64_MAX);
	source->dead_letter_topic = option_text(options, "dead_letter_topic");
	source->dead_letter_server = option_text(options, "dead_letter_server");
	if (start == NULL || strcmp(start, "earliest") == 0)
		source->start = KFK_START_EARLIEST;
	else if (strcmp(start, "latest") == 0)
		source->start = KFK_START_LATEST;
	else if (kfk_timestamp(start, strlen(start), &micros))
	{
		source->start = KFK_START_TIME;
		source->start_ms = micros / 1000 + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000);
	}
	else
		source->start = option_number(options, "start", 0, 0, PG_INT64_MAX);
}

/*
 * Read the row into source (whose cxt, name and worker are set).
 * False if it is not for us: gone, not running, bound elsewhere or, unless
 * source->generation is 0, changed since.
 */
bool
kfk_load_source(kfk_source *source)
{
	static SPIPlanPtr plan = NULL;
	Oid			type = TEXTOID;
	Datum		arg = CStringGetTextDatum(source->name);
	mr_owner_save save;
	bool		found = false;

	mr_spi_begin(&save);
	mr_prepare(&plan, "SELECT server, topic, target, owner, cluster_id, generation, coalesce(partitions, 0), options, "
				   "state OPERATOR(pg_catalog.=) 'running', bound_to, coalesce(workers_now, 0), replay_of IS NOT NULL, created_at "
				   "FROM millrace.sources WHERE name OPERATOR(pg_catalog.=) $1", 1, &type);
	SPI_execute_plan(plan, &arg, NULL, true, 1);
	if (SPI_processed == 1)
	{
		HeapTuple	row = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		null;
		int64		generation = DatumGetInt64(SPI_getbinval(row, desc, 6, &null));
		char	   *name = source->name;
		char	   *bound = SPI_getvalue(row, desc, 10);

		found = DatumGetBool(SPI_getbinval(row, desc, 9, &null)) && strcmp(bound, mr_source_binding()) == 0 &&
			(source->generation == 0 || source->generation == generation);
		if (found)
		{
			MemoryContext old;
			Datum		options = SPI_getbinval(row, desc, 8, &null);
			char		copy[NAMEDATALEN];

			strlcpy(copy, name, sizeof(copy));
			MemoryContextReset(source->cxt);
			old = MemoryContextSwitchTo(source->cxt);
			source->name = pstrdup(copy);
			source->server = SPI_getvalue(row, desc, 1);
			source->topic = SPI_getvalue(row, desc, 2);
			source->target = SPI_getvalue(row, desc, 3);
			source->owner = SPI_getvalue(row, desc, 4);
			source->cluster_id = SPI_getvalue(row, desc, 5);
			source->generation = generation;
			source->partitions = DatumGetInt32(SPI_getbinval(row, desc, 7, &null));
			source->workers = DatumGetInt32(SPI_getbinval(row, desc, 11, &null));
			source->replay = DatumGetBool(SPI_getbinval(row, desc, 12, &null));
			source->created_at = DatumGetTimestampTz(SPI_getbinval(row, desc, 13, &null));
			read_options(source, DatumGetJsonbPCopy(options));
			MemoryContextSwitchTo(old);
		}
	}
	mr_spi_end(&save);
	return found;
}

/* Cheaper: is the row still as it was loaded?  *workers are those in force.  In a transaction. */
bool
kfk_source_unchanged(const kfk_source *source, int *workers)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, INT8OID, TEXTOID, TIMESTAMPTZOID, BOOLOID};
	Datum		args[] = {CStringGetTextDatum(source->name), Int64GetDatum(source->generation), CStringGetTextDatum(mr_source_binding()),
	TimestampTzGetDatum(source->created_at), BoolGetDatum(source->created_at == 0)};
	mr_owner_save save;
	bool		unchanged;
	bool		null;

	mr_spi_begin(&save);
	mr_prepare(&plan, "SELECT coalesce(workers_now, 0) FROM millrace.sources WHERE name OPERATOR(pg_catalog.=) $1 "
				   "AND generation OPERATOR(pg_catalog.=) $2 AND bound_to OPERATOR(pg_catalog.=) $3 "
				   "AND state OPERATOR(pg_catalog.=) 'running' AND (created_at OPERATOR(pg_catalog.=) $4 OR $5)", lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, true, 1);
	unchanged = SPI_processed == 1;
	if (unchanged)
		*workers = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
	mr_spi_end(&save);
	return unchanged;
}

/* Add the options that librdkafka understands; others (of later versions) stay out. */
static int
add_options(List *from, mr_option_place place, const char **names, const char **values, int n)
{
	ListCell   *lc;

	foreach(lc, from)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		for (int i = 0; i < KFK_N_OPTIONS; i++)
			if (kfk_options[i].property && kfk_options[i].place == place && strcmp(kfk_options[i].name, def->defname) == 0)
			{
				names[n] = kfk_options[i].property;
				values[n++] = defGetString(def);
			}
	}
	return n;
}

/*
 * What librdkafka is to be told of a foreign server, with the current user's
 * mapping, which must have USAGE on it; ERROR if that cannot be.  In a
 * transaction, and in its memory: open the client there.
 */
void
kfk_server_settings(const char *name, kfk_settings *settings)
{
	ForeignServer *server = mr_use_server(name, "millrace_kafka");
	const char **names = palloc(sizeof(char *) * KFK_N_OPTIONS);
	const char **values = palloc(sizeof(char *) * KFK_N_OPTIONS);

	memset(settings, 0, sizeof(*settings));
	settings->names = names;
	settings->values = values;
	settings->n = add_options(server->options, MR_ON_SERVER, names, values, 0);
	settings->n = add_options(mr_mapping_options(server), MR_ON_MAPPING, names, values, settings->n);
	if (!mr_private_allowed(server))
		settings->refuses = mr_private_address;
}

/* A reading client for a foreign server; the rest as above.  The client outlives the transaction. */
kfk_client *
kfk_open_server(const char *name, const char *group, int prefetch_kb)
{
	char		error[512];
	kfk_settings settings;
	kfk_client *client;

	kfk_server_settings(name, &settings);
	settings.group = group;
	settings.prefetch_kb = prefetch_kb;
	client = kfk_open(&settings, error, sizeof(error));
	if (client == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
				 errmsg("no Kafka client for server \"%s\": %s", name, error)));
	return client;
}

/*
 * The schema registry of a foreign server, url NULL if it names none, with the
 * current user's mapping.  In a transaction; strings in the current context.
 */
void
kfk_registry_of(const char *name, kfk_registry *registry)
{
	ForeignServer *server = mr_use_server(name, "millrace_kafka");
	List	   *mapping = mr_mapping_options(server);

	registry->url = mr_option_value(server->options, "schema_registry");
	registry->ca_pem = mr_option_value(server->options, "ssl_ca_pem");
	registry->username = mr_option_value(mapping, "registry_username");
	registry->password = mr_option_value(mapping, "registry_password");
	registry->refuses = mr_private_allowed(server) ? NULL : mr_private_address;
}

/*
 * The client of a source.  Messages that it keeps ready lie in one queue, whose
 * size is looked at before more is asked for, of all partitions at once.
 */
kfk_client *
kfk_open_source(const kfk_source *source)
{
	return kfk_open_server(source->server, source->group ? source->group : psprintf("millrace-%s", source->name),
						   (int) Min(source->memory / KFK_MEMORY_PARTS * KFK_QUEUE_PARTS / 1024, 2097151));
}
