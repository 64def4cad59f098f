/*
 * call_start_pg.c
 *	  A task becomes a request, and begins.
 *
 * What cannot be sent (a payload that is none, a path that could be none, a
 * server that is not to be used) fails its task, and nobody else's.  The key of
 * a provider goes from its settings into the request's headers and is wiped
 * where we keep a copy.
 *
 * Memory: the task's context, and a malloc'd request until its call has ended.
 */
#include "postgres.h"

#include "task/worker/call.h"

#include <time.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "core/core_pg.h"
#include "task/jsonb_pg.h"

#define AGENT "User-Agent: millrace/" MILLRACE_VERSION " (PostgreSQL)"

/* What a request needs, until tsk_start() has copied it. */
typedef struct outgoing
{
	const char *method;
	const char *url;
	const char *body;
	size_t		body_len;
	int			n_headers;
	const char *headers[TSK_S3_HEADERS + 4];
	char		key[8192];		/* Authorization */
	char		id[64];			/* Idempotency-Key */
	tsk_s3_request s3;
} outgoing;

void
tsk_fail_errand(tsk_errand *errand, const char *sqlstate, const char *error)
{
	tsk_task   *task = errand->task;

	task->ok = false;
	strlcpy(task->sqlstate, sqlstate, sizeof(task->sqlstate));
	task->error = MemoryContextStrdup(task->cxt, error);
	tsk_give_back(errand, 0, TSK_NOT_BEGUN, false);
	tsk_finish_errand(errand);
}

/* It was admitted too long ago, or to a server that has been altered since. */
static void
put_back(tsk_errand *errand)
{
	tsk_give_back(errand, 0, TSK_NOT_BEGUN, false);
	errand->task->not_counted = true;
	errand->task->due_at = tsk_now();
	tsk_finish_errand(errand);
}

static void
add_header(outgoing *out, const char *header)
{
	out->headers[out->n_headers++] = header;
}

/* Who asks, and for what task: the provider's own log and ours name it alike. */
static void
add_usual_headers(const tsk_errand *errand, outgoing *out)
{
	const tsk_provider *p = errand->provider;
	char	   *id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&errand->task->id)));

	add_header(out, AGENT);
	snprintf(out->id, sizeof(out->id), "Idempotency-Key: %s", id);
	add_header(out, out->id);
	if (p->api_key == NULL)
		return;
	if ((size_t) snprintf(out->key, sizeof(out->key), "Authorization: Bearer %s", p->api_key) >= sizeof(out->key))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the key of server \"%s\" is too long", p->queue->name)));
	add_header(out, out->key);
}

/* A task's payload in UTF-8. */
static char *
payload_json(Jsonb *payload, size_t *len)
{
	StringInfoData out;
	char	   *json;

	initStringInfo(&out);
	(void) JsonbToCString(&out, &payload->root, VARSIZE(payload));
	json = pg_server_to_any(out.data, out.len, PG_UTF8);
	*len = json == out.data ? (size_t) out.len : strlen(json);
	return json;
}

static void
ask_model(tsk_errand *errand, outgoing *out)
{
	const tsk_provider *p = errand->provider;
	const tsk_task *task = errand->task;
	bool		vectors = strcmp(task->base, "embed") == 0;
	tsk_dialect dialect = {.api = p->api,.ask = vectors ? TSK_ASK_VECTORS : TSK_ASK_TEXT,.url = p->store.url,
	.model = vectors && p->embedding_model ? p->embedding_model : p->model,.stream = p->stream};
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st;
	size_t		len;
	char	   *payload = payload_json(task->payload, &len);

	if (p->stores)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" has api s3, where objects are fetched and nothing is asked", p->queue->name)));
	if (task->prompt)
		dialect.prompt = pg_server_to_any(task->prompt, (int) strlen(task->prompt), PG_UTF8);
	if (tsk_dialect_write(&dialect, payload, len, &env, &errand->request, &st) != MR_OK)
		mr_pg_raise(&st);
	out->method = "POST";
	out->url = errand->request.url;
	out->body = errand->request.body;
	out->body_len = errand->request.len;
	add_usual_headers(errand, out);
	add_header(out, "Content-Type: application/json");
}

/* The provider's url, and a path behind it with one slash between them. */
static char *
join_url(const tsk_provider *p, const char *path)
{
	size_t		len = strlen(p->store.url);

	while (len > 0 && p->store.url[len - 1] == '/')
		len--;
	return psprintf("%.*s/%s", (int) len, p->store.url, path + (*path == '/'));
}

/* A path of a request line: what it has to have is encoded by who wrote it. */
static void
check_path(const char *path)
{
	for (const char *c = path; *c; c++)
		if (*c <= ' ' || *c >= 0x7f || *c == '#')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a path has neither blanks, \"#\" nor anything beyond ASCII"),
					 errhint("Percent-encode it.")));
}

static char *
payload_path(Jsonb *payload)
{
	JsonbValue *v = tsk_member(payload, "path");

	if (v == NULL || v->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the payload has no text \"path\""),
				 errhint("A payload of kind fetch is {\"server\": …, \"path\": …}.")));
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static void
fetch(tsk_errand *errand, outgoing *out)
{
	const tsk_provider *p = errand->provider;
	char	   *path = payload_path(errand->task->payload);
	mr_status	st;

	out->method = "GET";
	if (!p->stores)
	{
		check_path(path);
		out->url = join_url(p, path);
		add_usual_headers(errand, out);
		return;
	}
	path = pg_server_to_any(path, (int) strlen(path), PG_UTF8);
	if (tsk_s3_prepare(&p->store, out->method, strncmp(path, "s3://", 5) == 0 ? path + 5 : path, NULL, 0, NULL, (int64_t) time(NULL), &out->s3, &st) != MR_OK)
		mr_pg_raise(&st);
	out->url = out->s3.url;
	for (int i = 0; i < out->s3.n_headers; i++)
		add_header(out, out->s3.headers[i]);
	add_header(out, AGENT);
}

/* Milliseconds that the call may take: its task's limit, else its provider's, and no longer than its deadline. */
static int
time_limit(tsk_errand *errand)
{
	const tsk_task *task = errand->task;
	int			usual = errand->provider->net.timeout_ms;
	int64		limit = task->timeout_ms > 0 ? task->timeout_ms : usual;

	if (task->deadline != 0)
		limit = Min(limit, (task->deadline - tsk_now()) / 1000 + 1);
	errand->cut_short = limit < usual;
	return (int) Max(limit, 1);
}

static void
send_off(tsk_errand *errand, outgoing *out)
{
	tsk_provider *p = errand->provider;
	tsk_link   *link = p->link ? p->link : tsk_open_link(p);
	tsk_call	call = {.method = out->method,.url = out->url,.headers = out->headers,.n_headers = out->n_headers,
	.body = out->body,.body_len = out->body_len,.timeout_ms = time_limit(errand)};
	char		error[128];

	errand->transfer = tsk_start(link->net, &call, errand, error, sizeof(error));
	if (errand->transfer == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("%s", error)));
	errand->link = link;
	link->calls++;
	p->n_running++;
	dlist_push_tail(&tsk_running, &errand->task->node);
	tsk_n_running++;
}

void
tsk_start_errand(tsk_errand *errand)
{
	tsk_task   *task = errand->task;
	const tsk_provider *p = errand->provider;
	MemoryContext old = MemoryContextSwitchTo(task->cxt);
	outgoing   *out;

	if (!OidIsValid(p->server))
	{
		tsk_fail_errand(errand, p->sqlstate, p->error);
		MemoryContextSwitchTo(old);
		return;
	}
	if (!errand->admitted || !tsk_limits_begin(&errand->pass))
	{
		put_back(errand);
		MemoryContextSwitchTo(old);
		return;
	}
	out = palloc0(sizeof(*out));
	PG_TRY();
	{
		if (strcmp(task->base, "fetch") == 0)
			fetch(errand, out);
		else
			ask_model(errand, out);
		send_off(errand, out);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(task->cxt);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			PG_RE_THROW();
		FlushErrorState();
		tsk_fail_errand(errand, unpack_sql_state(error->sqlerrcode), error->message ? error->message : "unknown error");
	}
	PG_END_TRY();
	explicit_bzero(out, sizeof(*out));
	pfree(out);
	MemoryContextSwitchTo(old);
}
