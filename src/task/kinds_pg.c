/*
 * kinds_pg.c
 *	  create_task_kind, drop_task_kind: rows of millrace.task_kinds.
 *
 * A kind is a default and a name; what its tasks may do is decided when they
 * are submitted, by the rights of who submits them.
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
#include "task/submit.h"
#include "task/tasks.h"

PG_FUNCTION_INFO_V1(millrace_create_task_kind);
PG_FUNCTION_INFO_V1(millrace_drop_task_kind);

/* A string that options say and submit_task() knows nothing of; taken out of them. */
static char *
take_string(Jsonb **options, const char *name)
{
	JsonbValue *v = getKeyJsonValueFromContainer(&(*options)->root, name, (int) strlen(name), NULL);
	char	   *s;

	if (v == NULL)
		return NULL;
	if (v->type != jbvString || v->val.string.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" of a kind of tasks must be a string", name)));
	s = pnstrdup(v->val.string.val, v->val.string.len);
	*options = DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(*options), CStringGetTextDatum(name)));
	return s;
}

/* millrace.create_task_kind(kind text, base text, options jsonb = '{}') -> void */
Datum
millrace_create_task_kind(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID};
	static const Oid jsonb = JSONBOID;
	char	   *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *base = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Jsonb	   *options = PG_GETARG_JSONB_P(2);
	tsk_wish	wish = TSK_NO_WISH;
	char	   *function,
			   *prompt;
	mr_owner_save save;

	if (*kind == '\0' || strlen(kind) > 255)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a kind of tasks has a name of 1 to 255 bytes")));
	if (!mr_is_one_of(base, "llm|embed|fetch|sql") || *base == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("base of a kind of tasks must be llm, embed, fetch or sql, not \"%s\"", base)));
	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options of a kind of tasks must be a JSON object")));
	function = take_string(&options, "function");
	prompt = take_string(&options, "prompt");
	if ((function && strcmp(base, "sql") != 0) || (prompt && strcmp(base, "llm") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" is not allowed for a kind of base \"%s\"", function ? "function" : "prompt", base)));
	if (function)
		function = tsk_check_function(function, 1, &jsonb, JSONBOID, GetUserId());
	tsk_read_options(options, tsk_now(), &wish);
	if (wish.key || wish.due_at)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" belongs to one task, not to a kind of them", wish.key ? "key" : "due_at")));
	{
		Datum		args[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), mr_text(function), mr_text(prompt), JsonbPGetDatum(options),
		CStringGetTextDatum(GetUserNameFromId(GetUserId(), false))};

		mr_spi_begin(&save);
		if (mr_run(&plan, "INSERT INTO millrace.task_kinds (kind, base, function, prompt, options, owner) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
				   lengthof(types), types, args) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("kind of tasks \"%s\" exists already", kind),
					 errhint("millrace.drop_task_kind() drops it, if it is yours.")));
		mr_spi_end(&save);
	}
	PG_RETURN_VOID();
}

/* millrace.drop_task_kind(kind text) -> boolean: was there one? */
Datum
millrace_drop_task_kind(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr find = NULL;
	static SPIPlanPtr drop = NULL;
	static const Oid type = TEXTOID;
	Datum		kind = PG_GETARG_DATUM(0);
	Oid			caller = GetUserId();
	mr_owner_save save;
	bool		found;

	mr_spi_begin(&save);
	found = mr_run(&find, "SELECT owner FROM millrace.task_kinds WHERE kind = $1", 1, &type, &kind) == 1;
	if (found)
	{
		char	   *owner = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		Oid			role = get_role_oid(owner, true);

		if (!superuser_arg(caller) && !(OidIsValid(role) && has_privs_of_role(caller, role)))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be owner of kind of tasks \"%s\"", TextDatumGetCString(kind))));
		mr_run(&drop, "DELETE FROM millrace.task_kinds WHERE kind = $1 AND kind <> base", 1, &type, &kind);
		if (SPI_processed == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("kind of tasks \"%s\" is built in", TextDatumGetCString(kind))));
	}
	mr_spi_end(&save);
	PG_RETURN_BOOL(found);
}
