/*
 * registry_pg.c
 *	  Schemas that messages name and nobody has told us, from the server's
 *	  schema registry into millrace.avro_schemas.
 *
 * Before a batch, with no transaction open: however long a registry takes to
 * answer, it holds up its source alone.  What does not come is asked for again;
 * the messages wait.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "stream/worker/avro.h"
#include "stream/worker/registry.h"

#define TURN_MS 20				/* between looks at a question */
#define MAX_REFERENCES 64		/* of a schema to others, in all ... */
#define MAX_DEPTH 16			/* ... and one behind the other */

/* A schema that is being fetched. */
typedef struct gathering
{
	const kfk_source *source;
	const kfk_registry *registry;
	uint32		id;
	List	   *paths;			/* of the schemas that it refers to, so far */
	StringInfoData before;		/* their texts */
} gathering;

/* Strings of a registry's answer as an ASCII line. */
static char *
plain(const char *text)
{
	char	   *copy = pnstrdup(text, strnlen(text, 200));

	for (char *p = copy; *p; p++)
		if (IS_HIGHBIT_SET(*p) || *p < ' ')
			*p = '?';
	return copy;
}

/* Member of a JSON object, if it is a string. */
static char *
string_member(Jsonb *object, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *v = JB_ROOT_IS_OBJECT(object) ? getKeyJsonValueFromContainer(&object->root, name, (int) strlen(name), &buffer) : NULL;

	return v != NULL && v->type == jbvString ? pnstrdup(v->val.string.val, v->val.string.len) : NULL;
}

/* Turn a question until it is answered; it is ended before an ERROR leaves. */
static void
await(kfk_question *question)
{
	PG_TRY();
	{
		while (!kfk_ask_turn(question))
			mr_nap(TURN_MS);
	}
	PG_CATCH();
	{
		kfk_ask_end(question);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* The registry's answer to a path, in the current context; NULL, after saying why there is none. */
static char *
ask(gathering *g, const char *path)
{
	char		error[512];
	const char *body = NULL;
	char	   *copy = NULL;
	kfk_question *question = kfk_ask(g->registry, path, error, sizeof(error));
	int			status = 0;

	if (question != NULL)
	{
		await(question);
		status = kfk_answer(question, &body, error, sizeof(error));
	}
	if (status == 200)
		copy = pstrdup(body);
	else
		kfk_report(g->source, "waiting", "08006",
				   status == 0 ? psprintf("Avro schema %u could not be fetched: %s", g->id, plain(error)) :
				   psprintf("Avro schema %u could not be fetched: the schema registry answered %d: %s", g->id, status, plain(body)));
	kfk_ask_end(question);
	return copy;
}

/* subjects/SUBJECT/versions/VERSION, or NULL if the reference has no such members. */
static char *
reference_path(Jsonb *reference)
{
	char	   *subject = string_member(reference, "subject");
	JsonbValue	buffer;
	JsonbValue *version = subject ? getKeyJsonValueFromContainer(&reference->root, "version", 7, &buffer) : NULL;
	StringInfoData path;

	if (version == NULL || version->type != jbvNumeric)
		return NULL;
	initStringInfo(&path);
	appendStringInfoString(&path, "subjects/");
	for (const unsigned char *p = (unsigned char *) subject; *p; p++)
		if ((*p >= '0' && *p <= '9') || ((*p | 32) >= 'a' && (*p | 32) <= 'z') || strchr("-._~", *p) != NULL)
			appendStringInfoChar(&path, (char) *p);
		else
			appendStringInfo(&path, "%%%02X", *p);
	appendStringInfo(&path, "/versions/%s", DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(version->val.numeric))));
	return path.data;
}

/*
 * The schema that the registry has at a path; those that it refers to are
 * appended to g->before, each behind what it refers to itself.  NULL, after
 * saying why, if one could not be fetched; ERROR if one cannot be used.
 */
static char *
gather(gathering *g, const char *path, int depth)
{
	char	   *body = ask(g, path);
	Jsonb	   *answer;
	char	   *schema;
	char	   *type;
	JsonbValue	buffer;
	JsonbValue *references;
	int			n;

	if (body == NULL)
		return NULL;
	answer = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(body)));
	schema = string_member(answer, "schema");
	type = string_member(answer, "schemaType");
	if (schema == NULL || (type != NULL && strcmp(type, "AVRO") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("schema %u of the schema registry is %s", g->id, schema ? "no Avro schema" : "missing in its answer")));
	references = getKeyJsonValueFromContainer(&answer->root, "references", 10, &buffer);
	n = references != NULL && references->type == jbvBinary && JsonContainerIsArray(references->val.binary.data) ?
		(int) JsonContainerSize(references->val.binary.data) : 0;
	for (int i = 0; i < n; i++)
	{
		JsonbValue *reference = getIthJsonbValueFromContainer(references->val.binary.data, (uint32) i);
		char	   *to = reference->type == jbvBinary ? reference_path(JsonbValueToJsonb(reference)) : NULL;
		char	   *text;
		ListCell   *lc;
		bool		seen = false;

		if (to == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("schema %u of the schema registry refers to a schema without subject or version", g->id)));
		foreach(lc, g->paths)
			seen = seen || strcmp(lfirst(lc), to) == 0;
		if (seen)
			continue;
		if (depth >= MAX_DEPTH || list_length(g->paths) >= MAX_REFERENCES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("schema %u of the schema registry refers to more than %d schemas, or %d deep", g->id, MAX_REFERENCES, MAX_DEPTH)));
		g->paths = lappend(g->paths, to);
		text = gather(g, to, depth + 1);
		if (text == NULL)
			return NULL;
		appendStringInfo(&g->before, "%s%s", g->before.len > 0 ? ", " : "", text);
	}
	return schema;
}

/* Fetch the schema of an id, with all it refers to in it, and store it.  False, after saying why, if that cannot be. */
static bool
fetch(const kfk_source *source, const kfk_registry *registry, uint32 id)
{
	gathering	g = {.source = source,.registry = registry,.id = id};
	MemoryContext caller = CurrentMemoryContext;
	volatile bool good = false;

	initStringInfo(&g.before);
	PG_TRY();
	{
		char	   *schema = gather(&g, psprintf("schemas/ids/%u", id), 0);

		if (schema != NULL && g.before.len > 0)
			schema = psprintf("{\"references\": [%s], \"type\": %s}", g.before.data, schema);
		if (schema != NULL)
		{
			mr_begin("store a schema");
			kfk_store_schema(source->server, id, schema);
			mr_commit();
			good = true;
		}
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(caller);
		kfk_report(source, "waiting", unpack_sql_state(error->sqlerrcode), error->message);
	}
	PG_END_TRY();
	return good;
}

/*
 * The schema of one key or value is known, or cannot be: no Avro, or nobody to
 * ask.  *seen is the id looked at last, *seen_any whether there was one.
 */
static bool
know(const kfk_source *source, const void *data, size_t len, bool *seen_any, uint32_t *seen)
{
	kfk_registry registry;
	uint32_t	id;
	bool		known;

	if (data == NULL || !kfk_avro_id(data, len, &id) || (*seen_any && *seen == id))
		return true;
	*seen_any = true;
	*seen = id;
	if (kfk_schema_cached(id))
		return true;
	mr_begin("look up a schema");
	known = kfk_schema(unconstify(kfk_source *, source), id) != NULL;
	if (!known)
		kfk_registry_of(source->server, &registry);
	mr_commit();
	return known || registry.url == NULL || fetch(source, &registry, id);
}

/*
 * Have the schemas of all items, as far as somebody can be asked for them.
 * False, after saying why, if one of them must be tried again later.  Outside a
 * transaction.
 */
bool
kfk_know_schemas(const kfk_source *source, const kfk_item *items, int n)
{
	bool		values = kfk_avro_format(source->format);
	bool		keys = source->key_format != NULL && kfk_avro_format(source->key_format);

	bool		seen[2] = {false, false};
	uint32_t	id[2];

	for (int i = 0; (values || keys) && i < n; i++)
		if ((values && !know(source, items[i].message.value, items[i].message.value_len, &seen[0], &id[0])) ||
			(keys && !know(source, items[i].message.key, items[i].message.key_len, &seen[1], &id[1])))
			return false;
	return true;
}
