/*
 * options_pg.c
 *	  Options of submit_task(): an allow-list, their types and bounds.
 *
 * A null stands for "not given", also over the options of a kind.  Memory: the
 * current context.  Locks: none.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "task/submit.h"

#define MAX_PAUSE_S 1e9			/* of delay and deadline */

typedef struct option
{
	const char *name;
	enum
	{
		NUMBER,					/* whole, within low .. high */
		TEXT,					/* of low .. high bytes */
		TIME,
		PAUSE,					/* seconds, or an interval, from now on */
		TIME_OR_PAUSE,
		PROVIDERS
	}			type;
	size_t		at;				/* within tsk_wish */
	int			low,
				high;
} option;

static const option known[] = {
	{"deadline", .type = TIME_OR_PAUSE, .at = offsetof(tsk_wish, deadline)},
	{"delay", .type = PAUSE, .at = offsetof(tsk_wish, delayed)},
	{"deliver", TEXT, offsetof(tsk_wish, deliver), 1, 1024},
	{"due_at", .type = TIME, .at = offsetof(tsk_wish, due_at)},
	{"key", TEXT, offsetof(tsk_wish, key), 1, 1024},	/* both are indexed */
	{"max_attempts", NUMBER, offsetof(tsk_wish, max_attempts), 1, 100},
	{"order_key", TEXT, offsetof(tsk_wish, order_key), 1, 1024},
	{"priority", NUMBER, offsetof(tsk_wish, priority), 0, 9},
	{"provider", .type = PROVIDERS},
	{"tag", TEXT, offsetof(tsk_wish, tag), 0, 65536},
	{"tenant", TEXT, offsetof(tsk_wish, tenant), 0, 256},
	{"timeout_ms", NUMBER, offsetof(tsk_wish, timeout_ms), 1, 86400000},
	{"watch", TEXT, offsetof(tsk_wish, watch), 1, 1024},
};

/* Not what an option must be. */
static _Noreturn void
refuse(const char *name, const char *must_be)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" of a task must be %s", name, must_be)));
}

static const option *
find(const char *name)
{
	StringInfoData names;

	for (int i = 0; i < (int) lengthof(known); i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i];
	initStringInfo(&names);
	for (int i = 0; i < (int) lengthof(known); i++)
		appendStringInfo(&names, "%s%s", i ? ", " : "", known[i].name);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" of a task does not exist", name),
			 errhint("Options are %s.", names.data)));
}

static char *
string_of(const JsonbValue *v)
{
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static double
number_of(const JsonbValue *v)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v->val.numeric)));
}

/* Seconds, or an interval as text, from now on. */
static TimestampTz
read_pause(const option *o, const JsonbValue *v, TimestampTz now)
{
	static const char must_be[] = "seconds, or an interval, of at most 30 years";
	TimestampTz at;

	if (v->type == jbvNumeric)
	{
		double		s = number_of(v);

		if (!(s >= 0 && s <= MAX_PAUSE_S))
			refuse(o->name, must_be);
		return now + (TimestampTz) (s * USECS_PER_SEC);
	}
	if (v->type != jbvString)
		refuse(o->name, must_be);
	at = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now),
												 DirectFunctionCall3(interval_in, CStringGetDatum(string_of(v)), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
	if (TIMESTAMP_NOT_FINITE(at) || at < now || at > now + (TimestampTz) (MAX_PAUSE_S * USECS_PER_SEC))
		refuse(o->name, must_be);
	return at;
}

static TimestampTz
read_time(const option *o, const JsonbValue *v)
{
	TimestampTz at = DT_NOEND;

	if (v->type == jbvString)
		at = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(string_of(v)), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(at))
		refuse(o->name, "a time, such as \"2027-01-31 18:00+00\"");
	return at;
}

/* "2027-01-31 …" and the like; all else is an interval. */
static bool
looks_like_time(const JsonbValue *v)
{
	return v->type == jbvString && v->val.string.len > 4 && strspn(string_of(v), "0123456789") == 4 && v->val.string.val[4] == '-';
}

static void
add_provider(tsk_wish *wish, char *name, double weight)
{
	if (*name == '\0' || wish->n_providers == TSK_MAX_PROVIDERS)
		refuse("provider", "a server, an array of servers, or an object of servers and their weights, at most 16");
	for (int i = 0; i < wish->n_providers; i++)
		if (strcmp(wish->providers[i], name) == 0)
			refuse("provider", "without a server named twice");
	wish->weights[wish->n_providers] = weight;
	wish->providers[wish->n_providers++] = name;
}

/* "a", ["a", "b"], {"a": 0.9, "b": 0.1} */
static void
read_providers(tsk_wish *wish, const JsonbValue *v)
{
	static const char must_be[] = "a server, an array of servers, or an object of servers and their weights";
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *name = NULL;
	double		sum = 0;

	wish->n_providers = 0;
	wish->weighted = false;
	if (v->type == jbvString)
		add_provider(wish, string_of(v), 0);
	else if (v->type == jbvBinary)
	{
		wish->weighted = JsonContainerIsObject(v->val.binary.data);
		it = JsonbIteratorInit(v->val.binary.data);
		while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
			if (token == WJB_ELEM)
			{
				if (item.type != jbvString)
					refuse("provider", must_be);
				add_provider(wish, string_of(&item), 0);
			}
			else if (token == WJB_KEY)
				name = string_of(&item);
			else if (token == WJB_VALUE)
			{
				double		weight = item.type == jbvNumeric ? number_of(&item) : -1;

				if (!(weight >= 0 && weight <= 1e9))
					refuse("provider", "an object of servers and their weights: numbers from 0 on");
				sum += weight;
				add_provider(wish, name, weight);
			}
		if (wish->n_providers == 0 || (wish->weighted && sum <= 0))
			refuse("provider", wish->weighted ? "an object of servers and their weights, not all of them 0" : must_be);
	}
	else
		refuse("provider", must_be);
}

static void
read_option(const option *o, const JsonbValue *v, TimestampTz now, tsk_wish *wish)
{
	char	   *field = (char *) wish + o->at;

	switch (o->type)
	{
		case NUMBER:
			{
				double		n = v->type == jbvNumeric ? number_of(v) : NAN;

				if (!(n >= o->low && n <= o->high) || n != floor(n))
					refuse(o->name, psprintf("a whole number from %d to %d", o->low, o->high));
				*(int *) field = (int) n;
				break;
			}
		case TEXT:
			if (v->type != jbvString || v->val.string.len < o->low || v->val.string.len > o->high)
				refuse(o->name, psprintf("a string of %d to %d bytes", o->low, o->high));
			*(char **) field = string_of(v);
			break;
		case TIME:
			*(TimestampTz *) field = read_time(o, v);
			break;
		case PAUSE:
			*(TimestampTz *) field = read_pause(o, v, now);
			break;
		case TIME_OR_PAUSE:
			*(TimestampTz *) field = looks_like_time(v) ? read_time(o, v) : read_pause(o, v, now);
			break;
		case PROVIDERS:
			read_providers(wish, v);
			break;
	}
}

static void
forget_option(const option *o, tsk_wish *wish)
{
	const tsk_wish none = TSK_NO_WISH;
	size_t		width = o->type == NUMBER ? sizeof(int) : o->type == TEXT ? sizeof(char *) : sizeof(TimestampTz);

	if (o->type == PROVIDERS)
		wish->n_providers = 0;
	else
		memcpy((char *) wish + o->at, (const char *) &none + o->at, width);
}

void
tsk_read_options(Jsonb *options, TimestampTz now, tsk_wish *wish)
{
	JsonbIterator *it = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	const option *o = NULL;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options of a task must be a JSON object"),
				 errhint("For example {\"priority\": 7, \"tag\": \"question 17\"}.")));
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
			o = find(string_of(&v));
		else if (token == WJB_VALUE && v.type == jbvNull)
			forget_option(o, wish);
		else if (token == WJB_VALUE)
			read_option(o, &v, now, wish);
	if (wish->due_at && wish->delayed)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options \"delay\" and \"due_at\" of a task exclude each other")));
}

char *
tsk_check_function(const char *name, int n, const Oid *types, Oid result, Oid role)
{
	Oid			function = LookupFuncName(CompatQualifiedName(name), n, types, true);
	StringInfoData signature;

	if (!OidIsValid(function) || get_func_prokind(function) != PROKIND_FUNCTION || (OidIsValid(result) && get_func_rettype(function) != result))
	{
		initStringInfo(&signature);
		for (int i = 0; i < n; i++)
			appendStringInfo(&signature, "%s%s", i ? ", " : "", format_type_be(types[i]));
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(%s)%s does not exist", name, signature.data, OidIsValid(result) ? psprintf(" returns %s", format_type_be(result)) : "")));
	}
	if (compat_function_aclcheck(function, role, ACL_EXECUTE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
	return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)), get_func_name(function));
}
