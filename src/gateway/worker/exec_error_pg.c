/*
 * exec_error_pg.c
 *	  Errors become answers: a status by the SQLSTATE, and a JSON object.
 *
 * The client is told message, detail and hint of what it can do something about, never where in whose
 * function it happened; of what went wrong here it is told that it did, and the log the rest.
 *
 * Memory: the current context.  Nothing here throws, but for want of memory.
 */
#include "postgres.h"

#include "gateway/worker/exec_int.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "core/process_pg.h"

/* First two characters of a SQLSTATE. */
static bool
is_class(const char *state, const char *class)
{
	return strncmp(state, class, 2) == 0;
}

/* PTxyz is status xyz. */
static int
own_status(const char *state)
{
	int			status = 0;

	if (!is_class(state, "PT"))
		return 0;
	for (int i = 2; i < 5; i++)
	{
		if (state[i] < '0' || state[i] > '9')
			return 0;
		status = status * 10 + state[i] - '0';
	}
	return status >= 200 && status <= 599 ? status : 0;
}

/* 500: the rest. */
static int
status_of(const gw_turn *turn, const char *state)
{
	int			own = own_status(state);

	if (own)
		return own;
	if (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0 || is_class(state, "53") ||
		is_class(state, "55") || is_class(state, "57") || is_class(state, "08"))
		return 503;
	if (turn->stage == GW_BEGIN)
		return is_class(state, "28") ? 401 : 500;
	if (turn->stage == GW_ANSWER)
		return strcmp(state, "22023") == 0 ? 400 : 500; /* a header's value; the result, too large a one too */
	if (is_class(state, "54"))
		return 413;
	if (strcmp(state, "42501") == 0)
		return turn->request->anonymous ? 401 : 403;
	if (turn->stage == GW_FIND)
		return strcmp(state, "42883") == 0 || is_class(state, "3F") || strcmp(state, "42704") == 0 ? 404 : 500;
	if (turn->stage == GW_BIND && (is_class(state, "42") || is_class(state, "0A") || is_class(state, "P0")))
		return 400;				/* a name of a table as regclass … */
	if (strcmp(state, "23503") == 0 || strcmp(state, "23505") == 0 || strcmp(state, "23P01") == 0)
		return 409;
	if (strcmp(state, "42P01") == 0 || strcmp(state, "P0002") == 0)
		return 404;
	if (strcmp(state, "25006") == 0)
		return 405;
	if (is_class(state, "22") || is_class(state, "23") || strcmp(state, "44000") == 0 || strcmp(state, "P0001") == 0 || strcmp(state, "0A000") == 0)
		return 400;
	return 500;
}

/* As JSON, in UTF-8, whatever it is in. */
static void
append_text(StringInfo json, const char *name, const char *text)
{
	appendStringInfo(json, ", \"%s\": ", name);
	if (text == NULL)
	{
		appendStringInfoString(json, "null");
		return;
	}
	if (GetDatabaseEncoding() == PG_SQL_ASCII && !pg_verify_mbstr(PG_UTF8, text, (int) strlen(text), true))
		text = mr_plain(text);
	else
	{
		size_t		len = strlen(text);

		text = gw_to_client(text, &len);
	}
	escape_json(json, text);
}

bool
gw_error_answer(const gw_turn *turn, const ErrorData *error, gw_answer *a)
{
	const char *state = unpack_sql_state(error->sqlerrcode);
	const char *message = error->message ? error->message : "unknown error";
	const char *detail = error->detail;
	const char *hint = error->hint;
	bool		hidden;
	StringInfoData json;

	memset(a, 0, sizeof(*a));
	strlcpy(a->sqlstate, state, sizeof(a->sqlstate));
	a->status = status_of(turn, state);
	hidden = a->status == 500 && own_status(state) == 0 && !(turn->stage == GW_ANSWER && is_class(state, "54"));
	if (hidden)
	{
		message = "internal error; the server's log says more";
		detail = hint = NULL;
	}
	else if (turn->timed_out && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
	{
		message = psprintf("the function was cancelled after %d ms", turn->limit_ms);
		detail = hint = NULL;
	}
	else if (a->status == 503)
		detail = NULL;			/* of memory contexts, processes of a deadlock */
	if (turn->argument && !hidden && a->status < 500)
		message = psprintf("argument \"%s\": %s", turn->argument, message);
	initStringInfo(&json);
	appendStringInfo(&json, "{\"code\": \"%s\"", state);
	append_text(&json, "message", message);
	append_text(&json, "details", detail);
	append_text(&json, "hint", hint);
	appendStringInfoChar(&json, '}');
	a->type = "application/json";
	a->body = json.data;
	a->len = json.len;
	if (a->status == 503)
		a->headers = "Retry-After: 1\n";
	return hidden || (a->status == 503 && !is_class(state, "40") && !is_class(state, "55"));
}
