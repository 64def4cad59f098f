/*
 * exec_bind_pg.c
 *	  Values of a request become arguments, by name.
 *
 * From the path, the query, fields and files of a form, the members of a JSON object; argument
 * `body` takes the body as a whole.  A name that no argument has, an argument that was given twice and is no
 * array, or one that is missing and has no default are the client's faults: 22023, with what there is.
 *
 * Memory: the transaction's.
 */
#include "postgres.h"

#include "gateway/worker/exec_int.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/json.h"

/* What is being put together. */
typedef struct binding
{
	gw_turn    *turn;
	const gw_function *f;
	uint64	   *given;
	Datum	   *values;
	bool	   *nulls;
	char	   *taken;			/* values of the request that are bound */
} binding;

static int
find_param(const gw_function *f, const char *name)
{
	for (int i = 0; i < f->n; i++)
		if (f->param[i].name && strcmp(f->param[i].name, name) == 0)
			return i;
	return -1;
}

static void
unknown(const binding *b, const char *what, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s \"%s\" is no argument of function %s", what, name, b->f->name),
			 errhint("%s", gw_argument_list(b->f))));
}

/* Begin with argument i: its name is for errors. */
static const gw_param *
begin_param(binding *b, int i)
{
	const gw_param *p = &b->f->param[i];

	b->turn->argument = p->name;
	if (gw_is_given(b->given, i))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("it was given twice")));
	b->given[i / 64] |= UINT64CONST(1) << (i % 64);
	b->nulls[i] = false;
	return p;
}

/* ---- path, query, form */

static bool
same_name(const gw_request *r, const gw_value *a, const gw_value *b)
{
	return a->name.len == b->name.len && memcmp(gw_text(r, a->name), gw_text(r, b->name), a->name.len) == 0;
}

/* What a file said of itself: arguments <name>_name and <name>_type, where there are any. */
static void
bind_file_facts(binding *b, const char *name, const gw_value *v)
{
	const gw_request *r = b->turn->request;
	struct
	{
		const char *suffix;
		gw_slice	slice;
	}			facts[] = {{"_name", v->filename}, {"_type", v->type}};

	for (int k = 0; k < (int) lengthof(facts); k++)
	{
		int			i = find_param(b->f, psprintf("%s%s", name, facts[k].suffix));

		if (i < 0 || gw_is_given(b->given, i))
			continue;
		b->values[i] = gw_value_text(begin_param(b, i), gw_text(r, facts[k].slice), facts[k].slice.len);
	}
}

/* A value, and others of its name behind it: those of an array. */
static void
bind_value(binding *b, int k)
{
	const gw_request *r = b->turn->request;
	const gw_value *v = &r->value[k];
	char	   *name = gw_from_client(gw_text(r, v->name), v->name.len);
	int			i = find_param(b->f, name);
	const gw_param *p;
	gw_slice   *all = palloc(sizeof(gw_slice) * (r->n_values - k));
	int			n = 0;

	if (i < 0)
		unknown(b, v->source == GW_QUERY ? "parameter" : v->source == GW_PATH ? "part of the path" : v->source == GW_FILE ? "file" : "field", name);
	p = begin_param(b, i);
	for (int j = k; j < r->n_values; j++)
		if (!b->taken[j] && same_name(r, v, &r->value[j]))
		{
			b->taken[j] = true;
			all[n++] = r->value[j].value;
		}
	if (OidIsValid(p->element))
		b->values[i] = gw_value_texts(p, all, n, (const char *) r, v->source == GW_FILE);
	else if (n > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("it was given %d times", n)));
	else if (v->source == GW_FILE)
		b->values[i] = gw_value_bytes(p, gw_text(r, v->value), v->value.len);
	else
		b->values[i] = gw_value_text(p, gw_text(r, v->value), v->value.len);
	if (v->source == GW_FILE)
		bind_file_facts(b, name, v);
}

/* ---- JSON */

static void
bad_json(const mr_status *st)
{
	ereport(ERROR,
			(errcode(st->code == MR_LIMIT ? ERRCODE_PROGRAM_LIMIT_EXCEEDED : ERRCODE_INVALID_JSON_TEXT),
			 errmsg("%s", st->message)));
}

/* Members of an object, each an argument. */
static void
bind_members(binding *b, const char *text, size_t len)
{
	mr_status	st = {0};
	mr_json		js = {.start = text,.p = text,.end = text + len,.st = &st};
	int			n = 0;
	int			more;

	if (mr_json_peek(&js) != '{')
	{
		mr_json		whole = js;

		if (!mr_json_skip(&whole))
			bad_json(&st);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the body is no JSON object"),
				 errhint("%s", gw_argument_list(b->f))));
	}
	js.p++;
	while ((more = mr_json_next(&js, '{', &n)) > 0)
	{
		const char *content;
		size_t		key_len;
		bool		escaped;
		char	   *key;
		const char *raw;
		int			i;

		CHECK_FOR_INTERRUPTS();
		if (!mr_json_string(&js, &content, &key_len, &escaped))
			bad_json(&st);
		key = palloc(key_len + 1);
		if (escaped)
		{
			if (!mr_json_unescape(&js, content, key_len, key, &key_len))
				bad_json(&st);
		}
		else
			memcpy(key, content, key_len);
		if (mr_json_peek(&js) != ':')
		{
			mr_json_syntax(&js, "a colon");
			bad_json(&st);
		}
		js.p++;
		(void) mr_json_peek(&js);
		raw = js.p;
		if (!mr_json_skip(&js))
			bad_json(&st);
		key = gw_from_client(key, key_len);
		i = find_param(b->f, key);
		if (i < 0)
			unknown(b, "member", key);
		b->values[i] = gw_value_json(begin_param(b, i), raw, js.p - raw, &b->nulls[i]);
	}
	if (more < 0)
		bad_json(&st);
	if (mr_json_peek(&js) != '\0' || js.p < js.end)
	{
		mr_json_syntax(&js, "nothing more");
		bad_json(&st);
	}
}

/* The whole of it as one argument. */
static void
bind_body(binding *b, int i, const char *bytes, size_t len)
{
	const gw_param *p = begin_param(b, i);

	if (b->turn->argument == NULL)
		b->turn->argument = "body";
	b->values[i] = gw_value_bytes(p, bytes, len);
}

static void
check_utf8(const char *text, size_t len)
{
	if (len > MaxAllocSize)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the body is larger than a value can be")));
	(void) pg_verify_mbstr(PG_UTF8, text, (int) len, false);
}

/* ---- all of them */

static void
check_missing(const binding *b)
{
	for (int i = 0; i < b->f->n; i++)
	{
		const gw_param *p = &b->f->param[i];

		if (gw_is_given(b->given, i) || p->has_default || p->variadic)
			continue;
		if (i == b->f->body)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the request has no body, which function %s takes", b->f->name)));
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is missing", p->name ? p->name : psprintf("$%d", i + 1)),
				 errhint("%s", gw_argument_list(b->f))));
	}
}

void
gw_bind(gw_turn *turn, const gw_function *f, uint64 *given, Datum *values, bool *nulls)
{
	const gw_request *r = turn->request;
	const char *body = gw_text(r, r->body);
	binding		b = {.turn = turn,.f = f,.given = given,.values = values,.nulls = nulls};

	if (r->kind == GW_POLL)
	{
		if (f->n != 1)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("function %s does not take one argument, as a poll function does", f->name)));
		values[0] = gw_value_text(begin_param(&b, 0), gw_text(r, r->poll), r->poll.len);
		return;
	}
	b.taken = palloc0(Max(r->n_values, 1));
	for (int k = 0; k < r->n_values; k++)
		if (!b.taken[k])
			bind_value(&b, k);
	turn->argument = NULL;
	if (r->body_kind == GW_JSON)
		check_utf8(body, r->body.len);
	if (r->body_kind != GW_NO_BODY && f->body >= 0)
		bind_body(&b, f->body, body, r->body.len);
	else if (r->body_kind == GW_JSON)
		bind_members(&b, body, r->body.len);
	else if (r->body_kind == GW_RAW && r->body.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("function %s takes no body of this kind", f->name),
				 errhint("%s", gw_argument_list(f))));
	turn->argument = NULL;
	check_missing(&b);
}
