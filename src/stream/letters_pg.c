/*
 * letters_pg.c
 *	  What create_source and alter_source ask of option dead_letter_topic; and
 *	  alter_source, which raises quotas, among other options.
 *
 * Locks: the source's row as its other functions do.  The new generation makes
 * the workers start anew; the batch in progress may still commit as it was.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/server_pg.h"
#include "core/spi_pg.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "stream/admin.h"
#include "stream/options.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/regproc.h"

PG_FUNCTION_INFO_V1(millrace_alter_source);

/* Text of an option, NULL if it is not given. */
static char *
option_text(Jsonb *options, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *v = getKeyJsonValueFromContainer(&options->root, name, (int) strlen(name), &buffer);

	return v != NULL && v->type == jbvString ? pnstrdup(v->val.string.val, v->val.string.len) : NULL;
}

/*
 * May owner publish the dead letters of a source from this server and topic as
 * its options say?  They leave through an outbox, so it is asked what publish() asks.
 */
void
kfk_check_letter_topic(Jsonb *options, const char *source_server, const char *source_topic, Oid owner)
{
	char	   *topic = option_text(options, "dead_letter_topic");
	char	   *server = option_text(options, "dead_letter_server");
	char	   *role = GetUserNameFromId(owner, false);
	Oid			publish;
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	mr_owner_save save;
	bool		outbox;

	if (topic == NULL)
	{
		if (server != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("source option \"dead_letter_server\" needs option \"dead_letter_topic\"")));
		return;
	}
	if (server == NULL)
		server = pstrdup(source_server);
	if (strcmp(server, source_server) == 0 && strcmp(topic, source_topic) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" cannot be its own dead_letter_topic", topic),
				 errdetail("Each dead letter would be read again, and die again.")));
	if (compat_server_aclcheck(mr_find_server(server, "millrace_kafka")->serverid, owner, ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", server),
				 errdetail("Role \"%s\", which the source's workers connect as, publishes its dead letters there.", role),
				 errhint("GRANT USAGE ON FOREIGN SERVER %s TO %s;", quote_identifier(server), quote_identifier(role))));
	publish = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum("millrace.publish(text,text,bytea,bytea,jsonb)")));
	if (compat_function_aclcheck(publish, owner, ACL_EXECUTE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function publish"),
				 errdetail("Role \"%s\", which the source's workers connect as, publishes its dead letters.", role),
				 errhint("GRANT millrace_user TO %s;", quote_identifier(role))));

	mr_spi_begin(&save);
	values[0] = CStringGetTextDatum(server);
	outbox = kfk_run("SELECT FROM millrace.outboxes WHERE server = $1", 1, types, values, NULL, SPI_OK_SELECT) > 0;
	mr_spi_end(&save);
	if (!outbox)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server \"%s\" has no outbox", server),
				 errdetail("Dead letters leave for topic \"%s\" through it.", topic),
				 errhint("SELECT millrace.create_outbox(%s) makes one.", quote_literal_cstr(server))));
}

/* The source's row: its options with those given instead, and without those given as null. */
#define MERGED_SQL "SELECT server, topic, target::regclass::oid, owner, (SELECT coalesce(jsonb_object_agg(o.key, o.value), '{}') " \
	"FROM jsonb_each(s.options || $2) o WHERE o.value <> 'null') FROM millrace.sources s WHERE name = $1"

/* millrace.alter_source(name text, options jsonb) -> void */
Datum
millrace_alter_source(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *given = PG_GETARG_JSONB_P(1);
	Oid			types[] = {TEXTOID, JSONBOID};
	Datum		values[] = {CStringGetTextDatum(name), JsonbPGetDatum(given)};
	static const char *const fixed[] = {"owner", "start", "partitions", "control_topic"};	/* whose it is, and which messages */
	MemoryContext caller_cxt = CurrentMemoryContext;
	MemoryContext old;
	Oid			caller = GetUserId();
	mr_owner_save save;
	Jsonb	   *options;
	char	   *server;
	char	   *topic;
	char	   *owner;
	JsonbValue	buffer;
	Oid			target;
	bool		null;

	if (!JB_ROOT_IS_OBJECT(given))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options of a source must be a JSON object")));
	for (int i = 0; i < (int) lengthof(fixed); i++)
		if (getKeyJsonValueFromContainer(&given->root, fixed[i], (int) strlen(fixed[i]), &buffer) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("source option \"%s\" cannot be altered", fixed[i]),
					 errhint("Drop the source and create it anew.")));
	mr_spi_begin(&save);
	kfk_lock_source(name, caller);
	kfk_run(MERGED_SQL, lengthof(types), types, values, NULL, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(caller_cxt);
	server = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	topic = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	target = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &null));
	owner = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4);
	options = DatumGetJsonbPCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5, &null));
	MemoryContextSwitchTo(old);
	mr_spi_end(&save);

	/* As the caller: names of functions are looked up as in create_source. */
	(void) kfk_check_options(&options, target);
	kfk_check_letter_topic(options, server, topic, get_role_oid(owner, false));
	kfk_check_select(options, target, get_role_oid(owner, false));

	mr_spi_begin(&save);
	values[1] = JsonbPGetDatum(options);
	kfk_run("UPDATE millrace.sources SET options = $2, generation = generation + 1 WHERE name = $1", lengthof(types), types, values, NULL, SPI_OK_UPDATE);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}
