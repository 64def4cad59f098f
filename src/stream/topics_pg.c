/*
 * topics_pg.c
 *	  create_topic, forget_topic: what Kafka topics there should be.
 *
 * Only rows of millrace.topics are written here; the worker of the server's
 * outbox makes the topics (worker/outbox_topics_pg.c), with the rights that its
 * owner has at the brokers.  Who may is who may publish: a role with USAGE on
 * the server, and EXECUTE on the functions, as administrators have.
 *
 * Memory: the caller's context.  Locks: the row, until the transaction ends.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "core/shared_pg.h"
#include "core/spi_pg.h"
#include "stream/admin.h"

PG_FUNCTION_INFO_V1(millrace_create_topic);
PG_FUNCTION_INFO_V1(millrace_forget_topic);

#define MOST_PARTITIONS 100000
#define MOST_REPLICAS 100

/* ERROR unless Kafka would take it for a name. */
static void
check_name(const char *topic)
{
	if (topic[0] == '\0' || strlen(topic) > 249 || strcmp(topic, ".") == 0 || strcmp(topic, "..") == 0 ||
		topic[strspn(topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid topic \"%s\"", topic),
				 errdetail("A Kafka topic has 1 to 249 letters, digits, dots, underscores and hyphens, and is neither . nor ..")));
}

/* ERROR unless {"name": scalar, ...}: settings of the topic, which the brokers judge. */
static void
check_config(const JsonbValue *config)
{
	JsonbIterator *it;
	JsonbIteratorToken token = WJB_DONE;
	JsonbValue	v;

	if (config->type == jbvBinary && JsonContainerIsObject(config->val.binary.data))
	{
		it = JsonbIteratorInit(config->val.binary.data);
		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
			if (token == WJB_VALUE && v.type != jbvString && v.type != jbvNumeric && v.type != jbvBool)
				break;
		if (token == WJB_DONE)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for topic option \"config\""),
			 errhint("It is an object, for example {\"retention.ms\": 604800000}.")));
}

static void
check_options(Jsonb *options)
{
	JsonbIterator *it = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options of a topic must be a JSON object")));
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE && strcmp(name, "config") == 0)
			check_config(&v);
		else if (token == WJB_VALUE && strcmp(name, "replication") == 0)
		{
			char	   *text = v.type == jbvNumeric ? DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric))) : "";
			char	   *end;
			long		n = strtol(text, &end, 10);

			if (*end != '\0' || n < 1 || n > MOST_REPLICAS)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("invalid value for topic option \"replication\""),
						 errhint("Allowed is a whole number from 1 to %d; without it the brokers decide.", MOST_REPLICAS)));
		}
		else if (token == WJB_VALUE)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown topic option \"%s\"", name),
					 errhint("Options are replication, config.")));
}

/* millrace.create_topic(server text, topic text, partitions int = 1, options jsonb = '{}') -> void */
Datum
millrace_create_topic(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, INT4OID, JSONBOID};
	Datum		args[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), PG_GETARG_DATUM(3)};
	char	   *server = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			partitions = PG_GETARG_INT32(2);
	Oid			caller = GetUserId();
	mr_owner_save save;

	check_name(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	if (partitions < 1 || partitions > MOST_PARTITIONS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a topic cannot have %d partitions", partitions),
				 errhint("Allowed are 1 to %d.", MOST_PARTITIONS)));
	check_options(PG_GETARG_JSONB_P(3));
	mr_spi_begin(&save);
	kfk_check_publisher(server, caller);
	mr_run(&plan, "INSERT INTO millrace.topics AS t (server, topic, partitions, options) VALUES ($1, $2, $3, $4) "
		   "ON CONFLICT (server, topic) DO UPDATE SET partitions = excluded.partitions, options = excluded.options, state = 'wanted', reason = NULL, "
		   "failures = 0, again_at = excluded.again_at, generation = t.generation + 1", lengthof(types), types, args);
	mr_spi_end(&save);
	mr_change_at_commit(MR_CHANGE_SOURCES, MyDatabaseId);
	PG_RETURN_VOID();
}

/* millrace.forget_topic(server text, topic text) -> boolean */
Datum
millrace_forget_topic(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID};
	Datum		args[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	char	   *server = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			caller = GetUserId();
	mr_owner_save save;
	bool		found;

	mr_spi_begin(&save);
	kfk_check_publisher(server, caller);
	found = mr_run(&plan, "DELETE FROM millrace.topics WHERE server = $1 AND topic = $2", lengthof(types), types, args) > 0;
	mr_spi_end(&save);
	mr_change_at_commit(MR_CHANGE_SOURCES, MyDatabaseId);
	PG_RETURN_BOOL(found);
}
