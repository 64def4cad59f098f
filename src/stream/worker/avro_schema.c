/*
 * avro_schema.c
 *	  The JSON of an Avro schema into nodes.  See avro.h.
 *
 * Two passes: the JSON as a tree of its own, then types from it.  Named types
 * are registered before their fields are looked at, so that they may contain
 * themselves.  Whatever is not needed to read data (doc, default, order,
 * aliases) is passed over.
 */
#include "stream/worker/avro.h"

#include <stdlib.h>
#include <string.h>

#include "stream/worker/format.h"

#define MAX_NODES 20000
#define MAX_DEPTH 64			/* of the JSON */

typedef enum json_type
{
	JSON_STRING,
	JSON_NUMBER,
	JSON_WORD,					/* true, false, null */
	JSON_ARRAY,
	JSON_OBJECT
} json_type;

typedef struct json_value
{
	json_type	type;
	avro_name	key;			/* in an object */
	avro_name	text;			/* of a string as it stands, or a number */
	struct json_value *first;	/* of an array or object */
	struct json_value *next;
} json_value;

typedef struct parser
{
	const char *start;
	const char *p;
	const char *end;
	kfk_arena  *arena;
	kfk_fault  *fault;
	avro_node  *nodes;
	int			n;
	int			room;
} parser;

static bool
bad(parser *ps, const char *what, avro_name name)
{
	return kfk_fail(ps->fault, "22023", "invalid Avro schema: %s \"%.*s\"", what, kfk_shown(name.len), name.text ? name.text : "");
}

static bool
bad_json(parser *ps)
{
	return kfk_fail(ps->fault, "22023", "invalid Avro schema: no JSON at byte %zu", (size_t) (ps->p - ps->start) + 1);
}

/* ---- the JSON ---- */

static void
skip_space(parser *ps)
{
	while (ps->p < ps->end && (*ps->p == ' ' || *ps->p == '\n' || *ps->p == '\t' || *ps->p == '\r'))
		ps->p++;
}

/* A string's content as it stands: names have no escapes, and nothing else is looked at. */
static bool
read_string(parser *ps, avro_name *out)
{
	const char *from = ++ps->p;

	while (ps->p < ps->end && *ps->p != '"')
		ps->p += *ps->p == '\\' ? 2 : 1;
	if (ps->p >= ps->end)
	{
		ps->p = ps->end;
		return bad_json(ps);
	}
	*out = (avro_name) {from, (size_t) (ps->p - from)};
	ps->p++;
	return true;
}

static bool
read_json(parser *ps, int depth, json_value **out)
{
	json_value *v = kfk_take(ps->arena, sizeof(*v));
	json_value **last = &v->first;
	char		close;

	*out = v;
	if (v == NULL)
		return kfk_fail_memory(ps->fault);
	memset(v, 0, sizeof(*v));
	skip_space(ps);
	if (ps->p >= ps->end || depth == 0)
		return bad_json(ps);
	if (*ps->p == '"')
	{
		v->type = JSON_STRING;
		return read_string(ps, &v->text);
	}
	if (*ps->p != '{' && *ps->p != '[')
	{
		const char *from = ps->p;

		while (ps->p < ps->end && strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", *ps->p) != NULL && *ps->p != '\0')
			ps->p++;
		v->text = (avro_name) {from, (size_t) (ps->p - from)};
		v->type = *from == '-' || (*from >= '0' && *from <= '9') ? JSON_NUMBER : JSON_WORD;
		return v->text.len > 0 ? true : bad_json(ps);
	}
	v->type = *ps->p == '{' ? JSON_OBJECT : JSON_ARRAY;
	close = *ps->p++ == '{' ? '}' : ']';
	skip_space(ps);
	if (ps->p < ps->end && *ps->p == close)
	{
		ps->p++;
		return true;
	}
	for (;;)
	{
		avro_name	key = {NULL, 0};

		skip_space(ps);
		if (v->type == JSON_OBJECT)
		{
			if (ps->p >= ps->end || *ps->p != '"')
				return bad_json(ps);
			if (!read_string(ps, &key))
				return false;
			skip_space(ps);
			if (ps->p >= ps->end || *ps->p++ != ':')
				return bad_json(ps);
		}
		if (!read_json(ps, depth - 1, last))
			return false;
		(*last)->key = key;
		last = &(*last)->next;
		skip_space(ps);
		if (ps->p < ps->end && *ps->p == close)
		{
			ps->p++;
			return true;
		}
		if (ps->p >= ps->end || *ps->p++ != ',')
			return bad_json(ps);
	}
}

static bool
is(avro_name name, const char *text)
{
	return name.len == strlen(text) && memcmp(name.text, text, name.len) == 0;
}

static bool
same(avro_name a, avro_name b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.text, b.text, a.len) == 0);
}

/* Member of an object, or NULL. */
static json_value *
member(const json_value *object, const char *key)
{
	for (json_value *v = object->first; v != NULL; v = v->next)
		if (is(v->key, key))
			return v;
	return NULL;
}

static avro_name
string_member(const json_value *object, const char *key)
{
	json_value *v = member(object, key);

	return v != NULL && v->type == JSON_STRING ? v->text : (avro_name) {NULL, 0};
}

/* A whole number of at most nine digits; -1 if it is absent or something else. */
static int
number_member(const json_value *object, const char *key)
{
	json_value *v = member(object, key);
	int			n = 0;

	if (v == NULL || v->type != JSON_NUMBER || v->text.len > 9)
		return -1;
	for (size_t i = 0; i < v->text.len; i++)
	{
		if (v->text.text[i] < '0' || v->text.text[i] > '9')
			return -1;
		n = n * 10 + (v->text.text[i] - '0');
	}
	return n;
}

/* ---- the types ---- */

static const char *const primitives[] = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"};

/* A new node; -1 when there are too many or no memory is left. */
static int
new_node(parser *ps, avro_type type)
{
	if (ps->n >= MAX_NODES)
	{
		(void) kfk_fail(ps->fault, "22023", "invalid Avro schema: it has more than %d types", MAX_NODES);
		return -1;
	}
	if (ps->n == ps->room)
	{
		int			room = ps->room ? ps->room * 2 : 16;
		avro_node  *more = kfk_take(ps->arena, sizeof(avro_node) * (size_t) room);

		if (more == NULL)
		{
			(void) kfk_fail_memory(ps->fault);
			return -1;
		}
		if (ps->n > 0)
			memcpy(more, ps->nodes, sizeof(avro_node) * (size_t) ps->n);
		ps->nodes = more;
		ps->room = room;
	}
	memset(&ps->nodes[ps->n], 0, sizeof(avro_node));
	ps->nodes[ps->n].type = type;
	return ps->n++;
}

/* "namespace.name", or the name where it has a dot or there is no namespace. */
static bool
full_name(parser *ps, avro_name name, avro_name space, avro_name *out)
{
	char	   *text;

	*out = name;
	if (space.len == 0 || name.len == 0 || memchr(name.text, '.', name.len) != NULL)
		return true;
	text = kfk_take(ps->arena, space.len + 1 + name.len);
	if (text == NULL)
		return kfk_fail_memory(ps->fault);
	memcpy(text, space.text, space.len);
	text[space.len] = '.';
	memcpy(text + space.len + 1, name.text, name.len);
	*out = (avro_name) {text, space.len + 1 + name.len};
	return true;
}

/* The namespace that a full name lies in. */
static avro_name
space_of(avro_name name)
{
	size_t		n = name.len;

	while (n > 0 && name.text[n - 1] != '.')
		n--;
	return (avro_name) {name.text, n > 0 ? n - 1 : 0};
}

/* A type by its name: primitive, or defined before. */
static bool
refer(parser *ps, avro_name name, avro_name space, int *out)
{
	avro_name	full;

	for (int i = 0; i < (int) (sizeof(primitives) / sizeof(*primitives)); i++)
		if (is(name, primitives[i]))
			return (*out = new_node(ps, (avro_type) i)) >= 0;
	if (!full_name(ps, name, space, &full))
		return false;
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < ps->n; i++)
			if (ps->nodes[i].name.len > 0 && same(ps->nodes[i].name, pass == 0 ? full : name))
			{
				*out = i;
				return true;
			}
	return bad(ps, "unknown type", name);
}

/* What a logicalType makes of its type; combinations that mean nothing are plain, as the specification has it. */
static void
set_logical(avro_node *node, const json_value *object)
{
	static const struct
	{
		const char *name;
		avro_type	type;
		avro_logical logical;
	}			known[] = {
		{"date", AVRO_INT, AVRO_DATE}, {"time-millis", AVRO_INT, AVRO_TIME_MILLIS}, {"time-micros", AVRO_LONG, AVRO_TIME_MICROS},
		{"timestamp-millis", AVRO_LONG, AVRO_TIMESTAMP_MILLIS}, {"timestamp-micros", AVRO_LONG, AVRO_TIMESTAMP_MICROS},
		{"local-timestamp-millis", AVRO_LONG, AVRO_LOCAL_MILLIS}, {"local-timestamp-micros", AVRO_LONG, AVRO_LOCAL_MICROS},
		{"decimal", AVRO_BYTES, AVRO_DECIMAL}, {"decimal", AVRO_FIXED, AVRO_DECIMAL}, {"uuid", AVRO_FIXED, AVRO_UUID},
		{"duration", AVRO_FIXED, AVRO_DURATION}
	};
	avro_name	logical = string_member(object, "logicalType");

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (known[i].type == node->type && is(logical, known[i].name))
			node->logical = known[i].logical;
	if (node->logical == AVRO_DECIMAL)
	{
		int			scale = number_member(object, "scale");

		node->scale = scale < 0 ? 0 : scale;
		if (node->scale > 1000)
			node->logical = AVRO_PLAIN;
	}
	if ((node->logical == AVRO_UUID && node->size != 16) || (node->logical == AVRO_DURATION && node->size != 12))
		node->logical = AVRO_PLAIN;
}

static bool make_type(parser *ps, const json_value *v, avro_name space, int *out);

/* Room for the n children of a node. */
static bool
make_room(parser *ps, const json_value *list, int **of, avro_name **names, int *n)
{
	*n = 0;
	for (const json_value *v = list->first; v != NULL; v = v->next)
		(*n)++;
	*of = kfk_take(ps->arena, sizeof(int) * (size_t) (*n + 1));
	*names = kfk_take(ps->arena, sizeof(avro_name) * (size_t) (*n + 1));
	return *of != NULL && *names != NULL ? true : kfk_fail_memory(ps->fault);
}

/* Fields of a record, symbols of an enum or branches of a union into node. */
static bool
make_children(parser *ps, const json_value *list, avro_name space, int node)
{
	avro_type	type = ps->nodes[node].type;
	int		   *of;
	avro_name  *names;
	int			n;
	int			i = 0;

	if (list == NULL || list->type != JSON_ARRAY)
		return bad(ps, type == AVRO_RECORD ? "no fields in record" : "no symbols in enum", ps->nodes[node].name);
	if (!make_room(ps, list, &of, &names, &n))
		return false;
	for (const json_value *v = list->first; v != NULL; v = v->next, i++)
	{
		const json_value *t = v;

		of[i] = -1;
		names[i] = (avro_name) {NULL, 0};
		if (type == AVRO_ENUM)
		{
			if (v->type != JSON_STRING)
				return bad(ps, "no text among the symbols of enum", ps->nodes[node].name);
			names[i] = v->text;
			continue;
		}
		if (type == AVRO_RECORD)
		{
			names[i] = v->type == JSON_OBJECT ? string_member(v, "name") : names[i];
			t = v->type == JSON_OBJECT ? member(v, "type") : NULL;
			if (names[i].len == 0 || t == NULL)
				return bad(ps, "a field without name or type in record", ps->nodes[node].name);
		}
		if (!make_type(ps, t, space, &of[i]))
			return false;
	}
	ps->nodes[node].n = n;
	ps->nodes[node].of = of;
	ps->nodes[node].names = names;
	return true;
}

/*
 * Schemas that this one refers to come before it: {"references": [...], "type":
 * ...}.  The specification has no such thing, but in an object of this form
 * anything else is to be ignored.
 */
static bool
make_references(parser *ps, const json_value *v)
{
	const json_value *list = ps->n == 0 ? member(v, "references") : NULL;
	int			ignored;

	for (v = list && list->type == JSON_ARRAY ? list->first : NULL; v != NULL; v = v->next)
		if (!make_type(ps, v, (avro_name) {NULL, 0}, &ignored))
			return false;
	return true;
}

/* {"type": ...} */
static bool
make_object(parser *ps, const json_value *v, avro_name space, int *out)
{
	static const struct
	{
		const char *name;
		avro_type	type;
	}			complex[] = {
		{"record", AVRO_RECORD}, {"error", AVRO_RECORD}, {"enum", AVRO_ENUM}, {"fixed", AVRO_FIXED}, {"array", AVRO_ARRAY}, {"map", AVRO_MAP}
	};
	json_value *type = member(v, "type");
	int			node;

	if (type == NULL)
		return bad(ps, "an object without", (avro_name) {"type", 4});
	for (size_t i = 0; type->type == JSON_STRING && i < sizeof(complex) / sizeof(*complex); i++)
	{
		if (!is(type->text, complex[i].name))
			continue;
		*out = node = new_node(ps, complex[i].type);
		if (node < 0)
			return false;
		if (complex[i].type == AVRO_ARRAY || complex[i].type == AVRO_MAP)
		{
			json_value *items = member(v, complex[i].type == AVRO_ARRAY ? "items" : "values");
			int		   *of = kfk_take(ps->arena, sizeof(int));

			if (items == NULL)
				return bad(ps, "no type of the elements of", type->text);
			if (of == NULL)
				return kfk_fail_memory(ps->fault);
			if (!make_type(ps, items, space, of))
				return false;
			ps->nodes[node].n = 1;
			ps->nodes[node].of = of;
			return true;
		}
		else
		{
			avro_name	name = string_member(v, "name");
			avro_name	own = string_member(v, "namespace");

			if (name.len == 0)
				return bad(ps, "no name of a", type->text);
			if (!full_name(ps, name, own.text ? own : space, &ps->nodes[node].name))
				return false;
			space = space_of(ps->nodes[node].name);
			if (complex[i].type == AVRO_FIXED)
			{
				int			size = number_member(v, "size");

				if (size < 0)
					return bad(ps, "no size of fixed", name);
				ps->nodes[node].size = (size_t) size;
				set_logical(&ps->nodes[node], v);
				return true;
			}
			return make_children(ps, member(v, complex[i].type == AVRO_ENUM ? "symbols" : "fields"), space, node);
		}
	}
	if (!make_references(ps, v) || !make_type(ps, type, space, out))
		return false;
	if (ps->nodes[*out].type <= AVRO_STRING && ps->nodes[*out].logical == AVRO_PLAIN)
		set_logical(&ps->nodes[*out], v);
	return true;
}

static bool
make_type(parser *ps, const json_value *v, avro_name space, int *out)
{
	switch (v->type)
	{
		case JSON_STRING:
			return refer(ps, v->text, space, out);
		case JSON_OBJECT:
			return make_object(ps, v, space, out);
		case JSON_ARRAY:
			*out = new_node(ps, AVRO_UNION);
			return *out >= 0 && make_children(ps, v, space, *out);
		default:
			return bad(ps, "unknown type", v->text);
	}
}

const kfk_avro *
kfk_avro_parse(const char *text, size_t len, kfk_arena *arena, kfk_fault *fault)
{
	parser		ps = {text, text, text + len, arena, fault, NULL, 0, 0};
	kfk_avro   *schema = kfk_take(arena, sizeof(*schema));
	json_value *json;

	if (schema == NULL)
	{
		(void) kfk_fail_memory(fault);
		return NULL;
	}
	if (len > KFK_AVRO_MAX_SCHEMA || !mr_utf8(text, len))
	{
		(void) kfk_fail(fault, "22023", "invalid Avro schema: %s", len > KFK_AVRO_MAX_SCHEMA ? "it is larger than 1 MB" : "it is not valid UTF-8");
		return NULL;
	}
	if (!read_json(&ps, MAX_DEPTH, &json))
		return NULL;
	skip_space(&ps);
	if (ps.p < ps.end)
	{
		(void) bad_json(&ps);
		return NULL;
	}
	if (!make_type(&ps, json, (avro_name) {NULL, 0}, &schema->root))
		return NULL;
	schema->nodes = ps.nodes;
	return schema;
}
