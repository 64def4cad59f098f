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

/* The schema in a registry's answer; ERROR if it is none that we can use by itself. */
static char *
schema_of(const char *body, uint32 id)
{
	Jsonb	   *answer = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(body)));
	char	   *schema = string_member(answer, "schema");
	char	   *type = string_member(answer, "schemaType");
	JsonbValue	buffer;
	JsonbValue *references = schema ? getKeyJsonValueFromContainer(&answer->root, "references", 10, &buffer) : NULL;

	if (schema == NULL || (type != NULL && strcmp(type, "AVRO") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("schema %u of the schema registry is %s", id, schema ? "no Avro schema" : "missing in its answer")));
	if (references != NULL && references->type == jbvBinary && JsonContainerSize(references->val.binary.data) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("schema %u of the schema registry refers to other schemas", id),
				 errhint("Add it with these in it by millrace.add_avro_schema().")));
	return schema;
}

/* Store what the registry answered.  False, after saying so, if it cannot be used. */
static bool
store_answer(const kfk_source *source, uint32 id, const char *body)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool good = false;

	PG_TRY();
	{
		kfk_begin("store a schema");
		kfk_store_schema(source->server, id, schema_of(body, id));
		kfk_commit();
		good = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(caller);
		kfk_report(source, "waiting", unpack_sql_state(error->sqlerrcode), error->message);
	}
	PG_END_TRY();
	return good;
}

/* Ask the registry for a schema and store it.  False, after saying why, if it did not give it. */
static bool
fetch(const kfk_source *source, const kfk_registry *registry, uint32 id)
{
	char		error[512];
	const char *body = NULL;
	kfk_question *question = kfk_ask(registry, id, error, sizeof(error));
	int			status = 0;
	bool		good;

	if (question != NULL)
	{
		PG_TRY();
		{
			while (!kfk_ask_turn(question))
				kfk_nap(TURN_MS);
		}
		PG_CATCH();
		{
			kfk_ask_end(question);
			PG_RE_THROW();
		}
		PG_END_TRY();
		status = kfk_answer(question, &body, error, sizeof(error));
	}
	if (status == 200)
		good = store_answer(source, id, body);
	else
	{
		kfk_report(source, "waiting", "08006",
				   status == 0 ? psprintf("Avro schema %u could not be fetched: %s", id, plain(error)) :
				   psprintf("Avro schema %u could not be fetched: the schema registry answered %d: %s", id, status, plain(body)));
		good = false;
	}
	kfk_ask_end(question);
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
	kfk_begin("look up a schema");
	known = kfk_schema(unconstify(kfk_source *, source), id) != NULL;
	if (!known)
		kfk_registry_of(source->server, &registry);
	kfk_commit();
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
