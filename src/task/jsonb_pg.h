/*
 * jsonb_pg.h
 *	  Members of jsonb objects: finding them, and building objects of them.
 *
 * Memory: the current context.  Names and texts are not copied until the object is ended.
 */
#ifndef MILLRACE_TASK_JSONB_PG_H
#define MILLRACE_TASK_JSONB_PG_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/numeric.h"

/* NULL: it is no object, or the member is not there, or null. */
static inline JsonbValue *
tsk_member(Jsonb *object, const char *name)
{
	JsonbValue *v = JB_ROOT_IS_OBJECT(object) ? getKeyJsonValueFromContainer(&object->root, name, (int) strlen(name), NULL) : NULL;

	return v && v->type != jbvNull ? v : NULL;
}

static inline void
tsk_begin_object(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
}

static inline Jsonb *
tsk_end_object(JsonbParseState **state)
{
	return JsonbValueToJsonb(pushJsonbValue(state, WJB_END_OBJECT, NULL));
}

static inline void
tsk_push_key(JsonbParseState **state, const char *name)
{
	JsonbValue	v = {.type = jbvString,.val.string = {.val = unconstify(char *, name),.len = (int) strlen(name)}};

	pushJsonbValue(state, WJB_KEY, &v);
}

/* text: NULL becomes null. */
static inline void
tsk_push_text(JsonbParseState **state, const char *name, const char *text)
{
	JsonbValue	v = {.type = text ? jbvString : jbvNull};

	if (text)
	{
		v.val.string.val = unconstify(char *, text);
		v.val.string.len = (int) strlen(text);
	}
	tsk_push_key(state, name);
	pushJsonbValue(state, WJB_VALUE, &v);
}

static inline void
tsk_push_number(JsonbParseState **state, const char *name, int64 n)
{
	JsonbValue	v = {.type = jbvNumeric};

	v.val.numeric = int64_to_numeric(n);
	tsk_push_key(state, name);
	pushJsonbValue(state, WJB_VALUE, &v);
}

#endif							/* MILLRACE_TASK_JSONB_PG_H */
