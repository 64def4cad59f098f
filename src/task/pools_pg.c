/*
 * pools_pg.c
 *	  pause_tasks, resume_tasks, alter_task_pool: the pool of a role's tasks.
 *
 * Each may be called by members of the role, and of millrace_admin.  What is
 * written is written as the extension's owner.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "core/shared_pg.h"
#include "core/spi_pg.h"
#include "task/submit.h"

PG_FUNCTION_INFO_V1(millrace_pause_tasks);
PG_FUNCTION_INFO_V1(millrace_resume_tasks);
PG_FUNCTION_INFO_V1(millrace_alter_task_pool);

static const struct
{
	const char *name;
	int64		low,
				high;
}			options[] = {
	{"lease_s", 5, 86400},
	{"max_tasks", 1, 1000000000},
	{"memory", INT64CONST(16) << 20, INT64CONST(1) << 40},	/* bytes, or text with a unit */
	{"slots", 1, 256},
	{"workers_max", 1, 32},
	{"workers_min", 0, 32},
};

void
tsk_check_rights(const char *owner, const char *what)
{
	Oid			role = get_role_oid(owner, true);

	if (!has_privs_of_role(GetUserId(), get_role_oid("millrace_admin", false)) &&
		!(OidIsValid(role) && has_privs_of_role(GetUserId(), role)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for %s of role \"%s\"", what, owner),
				 errdetail("Only members of that role and of millrace_admin may do this.")));
}

/* The role an argument names, whose tasks the caller may manage; NULL: the caller. */
static Datum
owner_argument(FunctionCallInfo fcinfo)
{
	const char *owner = PG_ARGISNULL(0) ? GetUserNameFromId(GetUserId(), false) : text_to_cstring(PG_GETARG_TEXT_PP(0));

	tsk_check_rights(owner, "tasks");
	return CStringGetTextDatum(owner);
}

/* A statement about the pool of $1; was there one? */
static bool
run(SPIPlanPtr *plan, const char *sql, Datum owner, Datum argument, Oid type)
{
	Oid			types[] = {TEXTOID, type};
	Datum		args[] = {owner, argument};
	mr_owner_save save;
	uint64		n;

	mr_spi_begin(&save);
	n = mr_run(plan, sql, 2, types, args);
	mr_spi_end(&save);
	return n == 1;
}

/* millrace.pause_tasks(owner text = NULL, reason text = NULL) -> boolean */
Datum
millrace_pause_tasks(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;

	PG_RETURN_BOOL(run(&plan, "UPDATE millrace.task_pools SET state = 'paused', reason = $2, state_since = now(), generation = generation + 1 WHERE owner = $1",
					   owner_argument(fcinfo), PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1), TEXTOID));
}

/* millrace.resume_tasks(owner text = NULL) -> boolean */
Datum
millrace_resume_tasks(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;

	PG_RETURN_BOOL(run(&plan, "UPDATE millrace.task_pools SET state = 'running', reason = NULL, state_since = now(), generation = generation + 1, bound_to = $2 "
					   "WHERE owner = $1", owner_argument(fcinfo), CStringGetTextDatum(mr_source_binding()), TEXTOID));
}

static void
check_option(const char *name, const JsonbValue *v)
{
	double		n = NAN;

	for (int i = 0; i < (int) lengthof(options); i++)
	{
		if (strcmp(options[i].name, name) != 0)
			continue;
		if (v->type == jbvNumeric)
			n = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v->val.numeric)));
		else if (v->type == jbvString && strcmp(name, "memory") == 0)
			n = (double) DatumGetInt64(DirectFunctionCall1(pg_size_bytes, PointerGetDatum(cstring_to_text_with_len(v->val.string.val, v->val.string.len))));
		else if (v->type == jbvNull)
			return;				/* its default again */
		if (!(n >= (double) options[i].low && n <= (double) options[i].high) || n != floor(n))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" of a pool of tasks must be %s " INT64_FORMAT " to " INT64_FORMAT, name,
							strcmp(name, "memory") == 0 ? "a size, such as \"256MB\", of" : "a whole number from", options[i].low, options[i].high)));
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" of a pool of tasks does not exist", name),
			 errhint("Options are lease_s, max_tasks, memory, slots, workers_max, workers_min.")));
}

/* millrace.alter_task_pool(owner text, options jsonb) -> void */
Datum
millrace_alter_task_pool(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr check = NULL;
	static const Oid types[] = {TEXTOID, JSONBOID, TEXTOID};
	Jsonb	   *changes = PG_GETARG_JSONB_P(1);
	JsonbIterator *it = JsonbIteratorInit(&changes->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;
	Datum		args[] = {owner_argument(fcinfo), JsonbPGetDatum(changes), CStringGetTextDatum(mr_source_binding())};
	Oid			owner = get_role_oid(TextDatumGetCString(args[0]), false);
	mr_owner_save save;

	if (superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_ROLE_SPECIFICATION),
				 errmsg("superuser \"%s\" cannot own tasks", GetUserNameFromId(owner, false))));
	if (!JB_ROOT_IS_OBJECT(changes))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options of a pool of tasks must be a JSON object"),
				 errhint("For example {\"workers_max\": 8}.")));
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE)
			check_option(name, &v);
	mr_spi_begin(&save);
	mr_run(&plan, "INSERT INTO millrace.task_pools AS p (owner, options, bound_to) VALUES ($1, jsonb_strip_nulls($2), $3) "
		   "ON CONFLICT (owner) DO UPDATE SET options = jsonb_strip_nulls(p.options || $2), generation = p.generation + 1", lengthof(types), types, args);
	if (mr_run(&check, "SELECT 1 FROM millrace.task_pools p, millrace.task_pool_limits(p.options) l WHERE p.owner = $1 AND l.workers_min > l.workers_max", 1, types, args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"workers_min\" of a pool of tasks must not be larger than \"workers_max\"")));
	mr_spi_end(&save);
	PG_RETURN_VOID();
}
