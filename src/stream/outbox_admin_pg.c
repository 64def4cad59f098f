/*
 * outbox_admin_pg.c
 *	  create_outbox, pause_outbox, resume_outbox, drop_outbox.
 *
 * As with sources (admin_pg.c): who may is a member of the outbox's owner role,
 * what is written is written as the extension's owner, every change raises
 * generation, so that a worker that holds the old one ends, and the epoch of
 * the progress, so that it can claim nothing more.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "core/server_pg.h"
#include "core/spi_pg.h"
#include "stream/admin.h"
#include "stream/outbox.h"

PG_FUNCTION_INFO_V1(millrace_create_outbox);
PG_FUNCTION_INFO_V1(millrace_pause_outbox);
PG_FUNCTION_INFO_V1(millrace_resume_outbox);
PG_FUNCTION_INFO_V1(millrace_drop_outbox);

typedef struct outbox_option
{
	const char *name;
	int64		low,
				high;			/* a whole number within; low > high: a name of up to 249 bytes */
} outbox_option;

static const outbox_option known_options[] = {
	{"owner", 1, 0},
	{"progress_topic", 1, 0},
	{"batch_rows", 1, 100000},
	{"batch_bytes", 65536, 1 << 28},
};

static void
check_option(const char *name, const JsonbValue *v)
{
	for (int i = 0; i < (int) lengthof(known_options); i++)
	{
		const outbox_option *o = &known_options[i];

		if (strcmp(o->name, name) != 0)
			continue;
		if (o->low > o->high)
		{
			if (v->type == jbvString && v->val.string.len > 0 && v->val.string.len <= 249)
				return;
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for outbox option \"%s\"", name),
					 errhint("Allowed is a name.")));
		}
		if (v->type == jbvNumeric)
		{
			char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
			char	   *end;
			int64		n = strtoi64(text, &end, 10);

			if (*end == '\0' && n >= o->low && n <= o->high)
				return;
		}
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for outbox option \"%s\"", name),
				 errhint("Allowed is a whole number from " INT64_FORMAT " to " INT64_FORMAT ".", o->low, o->high)));
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown outbox option \"%s\"", name),
			 errhint("Options are owner, progress_topic, batch_rows, batch_bytes.")));
}

/* The role that option owner names; else the caller, for a superuser the server's owner. */
static Oid
owner_of(Jsonb *options, ForeignServer *server)
{
	JsonbIterator *it = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;
	Oid			owner = superuser() ? server->owner : GetUserId();

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options of an outbox must be a JSON object")));
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE)
		{
			check_option(name, &v);
			if (strcmp(name, "owner") == 0)
				owner = get_role_oid(pnstrdup(v.val.string.val, v.val.string.len), false);
		}
	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be a member of role \"%s\" to create an outbox for it", GetUserNameFromId(owner, false))));
	return owner;
}

/* Lock the outbox's row and check that the caller is a member of its owner; is it bound here?  As the extension's owner. */
static bool
lock_outbox(const char *server, Oid caller)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(server), CStringGetTextDatum(mr_source_binding())};
	char	   *owner;
	Oid			role;
	bool		null;

	if (kfk_run("SELECT owner, bound_to = $2 FROM millrace.outboxes WHERE server = $1 FOR NO KEY UPDATE", 2, types, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" has no outbox", server),
				 errhint("SELECT server FROM millrace.outboxes lists them.")));
	owner = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	role = get_role_oid(owner, true);
	/* The owner may have been dropped: then a superuser cleans up. */
	if (OidIsValid(role) ? !has_privs_of_role(caller, role) : !superuser_arg(caller))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for the outbox of server \"%s\"", server),
				 errdetail("It belongs to role \"%s\".", owner)));
	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &null));
}

/* Where messages begin: what is committed later than now; older ones, of an outbox dropped before, stay behind. */
static void
begin_here(const char *server)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(server)};

	kfk_run("INSERT INTO millrace.outbox_progress AS p (server, done) VALUES ($1, pg_catalog.pg_current_snapshot()) "
			"ON CONFLICT (server) DO UPDATE SET epoch = p.epoch + 1, batch = 0, confirmed = true, adopt = false, done = excluded.done, "
			"upto = NULL, after_id = NULL, batch_id = NULL, last_id = NULL", 1, types, values, NULL, SPI_OK_INSERT);
}

/* millrace.create_outbox(server text, options jsonb = '{}') -> void */
Datum
millrace_create_outbox(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *options = PG_GETARG_JSONB_P(1);
	ForeignServer *server = mr_find_server(name, "millrace_kafka");
	Oid			owner = owner_of(options, server);
	mr_owner_save save;

	kfk_check_owner(owner, server, "an outbox");
	mr_spi_begin(&save);
	{
		char	   *binding = mr_source_binding();
		Oid			types[] = {TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID};
		Datum		values[] = {CStringGetTextDatum(name), CStringGetTextDatum(GetUserNameFromId(owner, false)), JsonbPGetDatum(options),
		CStringGetTextDatum(binding), CStringGetTextDatum(psprintf("millrace/%s/%s", binding, name))};

		if (kfk_run("INSERT INTO millrace.outboxes (server, owner, options, bound_to, transactional_id) "
					"VALUES ($1, $2, $3, $4, $5 || '/' || pg_catalog.gen_random_uuid()) ON CONFLICT (server) DO NOTHING",
					lengthof(types), types, values, NULL, SPI_OK_INSERT) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("server \"%s\" has an outbox already", name)));
	}
	begin_here(name);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}

/* Set state and reason; raises generation and epoch.  As the extension's owner. */
static void
set_state(const char *server, const char *state, const char *reason, bool adopt)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID};
	Datum		values[] = {CStringGetTextDatum(server), CStringGetTextDatum(state), reason ? CStringGetTextDatum(reason) : (Datum) 0,
	CStringGetTextDatum(mr_source_binding()), BoolGetDatum(adopt)};

	kfk_run("UPDATE millrace.outboxes SET state = $2, reason = $3, state_since = pg_catalog.now(), generation = generation + 1, "
			"bound_to = CASE WHEN $2 = 'running' THEN $4 ELSE bound_to END WHERE server = $1",
			lengthof(types), types, values, reason ? NULL : "  n  ", SPI_OK_UPDATE);
	kfk_run("UPDATE millrace.outbox_progress SET epoch = epoch + 1, adopt = adopt OR $5 WHERE server = $1",
			lengthof(types), types, values, reason ? NULL : "  n  ", SPI_OK_UPDATE);
}

/* millrace.pause_outbox(server text, reason text = NULL) -> void */
Datum
millrace_pause_outbox(PG_FUNCTION_ARGS)
{
	char	   *server;
	Oid			caller = GetUserId();
	mr_owner_save save;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("server of an outbox must not be null")));
	server = text_to_cstring(PG_GETARG_TEXT_PP(0));
	mr_spi_begin(&save);
	lock_outbox(server, caller);
	set_state(server, "paused", PG_ARGISNULL(1) ? "paused by a user" : text_to_cstring(PG_GETARG_TEXT_PP(1)), false);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}

/* Messages that wait, as millrace.outbox_status counts them.  As the extension's owner. */
static int64
waiting_in(const char *server)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(server)};
	bool		null;

	kfk_run("SELECT coalesce((SELECT waiting FROM millrace.outbox_status WHERE server = $1), 0)", 1, types, values, NULL, SPI_OK_SELECT);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

/*
 * In another database than where it was (a restore, a clone, after pg_upgrade)
 * an outbox gets an identity of its own, so that it does not fence the
 * original's producer; whether the original sends what waits here, only the
 * user knows.
 */
static void
move_here(const char *server, bool accept_duplicates, bool discard)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(server), CStringGetTextDatum(psprintf("millrace/%s/%s", mr_source_binding(), server))};
	int64		waiting = waiting_in(server);

	if (waiting > 0 && !accept_duplicates && !discard)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("outbox of server \"%s\" comes from another database and holds " INT64_FORMAT " messages", server, waiting),
				 errdetail("The original may have sent them, or may yet do so."),
				 errhint("Say accept_duplicates => true to send them, or discard => true to begin with what is published from now on.")));
	kfk_run("UPDATE millrace.outboxes SET transactional_id = $2 || '/' || pg_catalog.gen_random_uuid() WHERE server = $1", 2, types, values, NULL, SPI_OK_UPDATE);
	if (waiting == 0 || discard)
		begin_here(server);
}

/* millrace.resume_outbox(server text, accept_duplicates bool = false, discard bool = false) -> void */
Datum
millrace_resume_outbox(PG_FUNCTION_ARGS)
{
	char	   *server = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		accept_duplicates = PG_GETARG_BOOL(1);
	bool		discard = PG_GETARG_BOOL(2);
	Oid			caller = GetUserId();
	mr_owner_save save;

	mr_spi_begin(&save);
	if (!lock_outbox(server, caller))
		move_here(server, accept_duplicates, discard);
	else if (discard)
		begin_here(server);
	set_state(server, "running", NULL, accept_duplicates || discard);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}

/* millrace.drop_outbox(server text, discard bool = false) -> void */
Datum
millrace_drop_outbox(PG_FUNCTION_ARGS)
{
	char	   *server = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		discard = PG_GETARG_BOOL(1);
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(server)};
	Oid			caller = GetUserId();
	mr_owner_save save;

	mr_spi_begin(&save);
	lock_outbox(server, caller);
	if (!discard)
	{
		int64		waiting = waiting_in(server);

		if (waiting > 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("outbox of server \"%s\" still holds " INT64_FORMAT " messages", server, waiting),
					 errhint("Wait until they have left, or SELECT millrace.drop_outbox(%s, discard => true).", quote_literal_cstr(server))));
	}
	kfk_run("DELETE FROM millrace.outboxes WHERE server = $1", 1, types, values, NULL, SPI_OK_DELETE);
	kfk_run("DELETE FROM millrace.outbox_progress WHERE server = $1", 1, types, values, NULL, SPI_OK_DELETE);
	kfk_run("DELETE FROM millrace.topics WHERE server = $1", 1, types, values, NULL, SPI_OK_DELETE);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}
