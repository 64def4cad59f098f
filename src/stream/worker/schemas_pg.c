/*
 * schemas_pg.c
 *	  Avro schemas by the ids of Confluent's wire format: millrace.avro_schemas,
 *	  and what a worker has parsed of it.
 *
 * Ids belong to a registry, hence to a server.  A schema never changes, so what
 * is cached stays good until the process ends; the cache has a memory context
 * of its own.  A message whose schema is not known waits for it: that is no
 * fault of the message, and the source goes on by itself when it is there.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "core/compat.h"
#include "core/spi_pg.h"
#include "stream/worker/avro.h"

PG_FUNCTION_INFO_V1(millrace_add_avro_schema);

typedef struct cached
{
	uint32		id;				/* hash key */
	const kfk_avro *schema;
} cached;

static HTAB *cache = NULL;
static MemoryContext cache_cxt = NULL;

static void *
more_memory(void *arg, size_t bytes)
{
	return MemoryContextAllocExtended(arg, bytes, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

/* Parse a schema in cxt; ERROR with this SQLSTATE if it is none. */
static const kfk_avro *
parse(const char *text, MemoryContext cxt, int sqlstate)
{
	kfk_arena	arena = {NULL, NULL, more_memory, cxt};
	kfk_fault	fault;
	const kfk_avro *schema = kfk_avro_parse(MemoryContextStrdup(cxt, text), strlen(text), &arena, &fault);

	if (schema == NULL)
		ereport(ERROR,
				(errcode(sqlstate),
				 errmsg("%s", fault.message)));
	return schema;
}

/* Text of a schema in the table, in the current context; NULL if it is not there.  In a transaction. */
static char *
stored(const char *server, uint32 id)
{
	static SPIPlanPtr plan = NULL;
	static Oid types[] = {TEXTOID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(server), Int64GetDatum((int64) id)};
	MemoryContext caller = CurrentMemoryContext;
	char	   *text = NULL;
	mr_owner_save save;

	mr_spi_begin(&save);
	mr_prepare(&plan, "SELECT schema FROM millrace.avro_schemas WHERE server OPERATOR(pg_catalog.=) $1 AND id OPERATOR(pg_catalog.=) $2",
			   lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, true, 1);
	if (SPI_processed == 1)
	{
		char	   *found = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		text = MemoryContextStrdup(caller, found);
	}
	mr_spi_end(&save);
	return text;
}

bool
kfk_schema_cached(uint32 id)
{
	return cache != NULL && hash_search(cache, &id, HASH_FIND, NULL) != NULL;
}

/* For kfk_decoder.schema, arg the source: from the cache or the table.  In a transaction. */
const kfk_avro *
kfk_schema(void *arg, uint32 id)
{
	const kfk_source *source = arg;
	static cached last;
	cached	   *entry;
	bool		found;
	char	   *text;
	const kfk_avro *schema;

	if (last.schema != NULL && last.id == id)
		return last.schema;
	if (cache == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(uint32),.entrysize = sizeof(cached)};

		cache_cxt = AllocSetContextCreate(TopMemoryContext, "millrace Avro schemas", ALLOCSET_DEFAULT_SIZES);
		cache = hash_create("millrace Avro schemas", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(cache, &id, HASH_FIND, NULL);
	if (entry == NULL)
	{
		text = stored(source->server, id);
		if (text == NULL)
			return NULL;
		/* No message is to be blamed for what somebody wrote into our table. */
		schema = parse(text, cache_cxt, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
		entry = hash_search(cache, &id, HASH_ENTER, &found);
		entry->schema = schema;
	}
	last = *entry;
	return entry->schema;
}

/* Put a schema into the table; ERROR if it is none, or the id has another one.  In a transaction. */
void
kfk_store_schema(const char *server, uint32 id, const char *text)
{
	Oid			types[] = {TEXTOID, INT8OID, TEXTOID};
	Datum		args[] = {CStringGetTextDatum(server), Int64GetDatum((int64) id), CStringGetTextDatum(text)};
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "schema to be stored", ALLOCSET_DEFAULT_SIZES);
	mr_owner_save save;

	(void) parse(text, cxt, ERRCODE_INVALID_PARAMETER_VALUE);
	MemoryContextDelete(cxt);
	mr_spi_begin(&save);
	if (SPI_execute_with_args("INSERT INTO millrace.avro_schemas AS s (server, id, schema) VALUES ($1, $2, $3) "
							  "ON CONFLICT (server, id) DO UPDATE SET schema = s.schema WHERE s.schema OPERATOR(pg_catalog.=) $3",
							  lengthof(types), types, args, NULL, false, 0) != SPI_OK_INSERT || SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("Avro schema %u of server \"%s\" is another one already", id, server),
				 errdetail("Registries never change the schema of an id, and messages may have been read with it.")));
	mr_spi_end(&save);
}

/* millrace.add_avro_schema(server text, id bigint, schema text) -> void */
Datum
millrace_add_avro_schema(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		id = PG_GETARG_INT64(1);
	ForeignServer *server = GetForeignServerByName(name, false);

	if (compat_server_aclcheck(server->serverid, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, name);
	if (id < 0 || id > PG_UINT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("id of an Avro schema must be from 0 to %u", PG_UINT32_MAX)));
	kfk_store_schema(name, (uint32) id, text_to_cstring(PG_GETARG_TEXT_PP(2)));
	PG_RETURN_VOID();
}
